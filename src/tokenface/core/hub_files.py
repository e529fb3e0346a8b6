"""Download of checkpoints from the Hugging Face Hub, `hf://owner/name`: cache and error messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tokenface.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
PREFIX = "hf://"


def fetch(address: str, companions: Iterable[str] = ()) -> Path:
    """The checkpoint of `hf://owner/name`, or of one revision: `hf://owner/name@revision`; kept in the Hub's cache.

    Args:
        companions: as for `download`.
    Raises:
        CheckpointError: no such repository, no network, not a checkpoint.
    """
    name, _, revision = address.removeprefix(PREFIX).partition("@")
    with one_line(name):
        return download(name, companions, revision=revision or None)


def download(model_id: str, companions: Iterable[str] = (), **options: Any) -> Path:
    """The checkpoint of a repository, or of a folder that `save_pretrained` wrote.

    Args:
        companions: names of files that are fetched beside it, where the repository has them.
        options: of `huggingface_hub.hf_hub_download`.
    Raises:
        CheckpointError: the folder has none.  `one_line` makes one of what the Hub raises.
    """
    folder = Path(model_id).expanduser()
    if folder.is_dir():
        path = folder / WEIGHTS_FILE
        if not path.is_file():
            raise CheckpointError(f"'{folder}' has no {WEIGHTS_FILE}; expected a folder that save_pretrained wrote")
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    path = Path(hf_hub_download(model_id, WEIGHTS_FILE, **options))
    for name in companions:
        with suppress(EntryNotFoundError):  # weights may come without any of them
            hf_hub_download(model_id, name, **options)
    return path


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """The Hub's errors as ours."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(
            f"'{name}' needs its owner's consent; ask for it on its page, then 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"the Hub has no repository '{name}', or it is private; 'hf auth login' first") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"'{name}' has no such revision; give a branch, tag or commit of it") from error
    except HFValidationError as error:
        raise CheckpointError(f"'{name}' is no folder and no name on the Hub (owner/name)") from error
    except LocalTokenNotFoundError as error:
        raise CheckpointError(f"'{name}' needs you to be known to the Hub; run 'hf auth login'") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"'{name}' is not in the Hub's cache and the Hub cannot be reached; connect to a network (and unset "
            "HF_HUB_OFFLINE), or give a folder that save_pretrained wrote"
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"'{name}' on the Hub has no {WEIGHTS_FILE}; it is no TokenFace model") from error
    except (HfHubHTTPError, ConnectionError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:150]
        raise CheckpointError(
            f"the Hub refused '{name}' ({reason}); check the name, your login and the network"
        ) from error
