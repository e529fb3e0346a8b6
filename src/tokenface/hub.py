"""Hugging Face Hub methods of the façade: `from_pretrained`, `save_pretrained`, `push_to_hub`.

A repository (or a folder) holds the checkpoint as `model.safetensors`, companions (`model.confidence.safetensors`, …),
its facts as `config.json`, and a model card written from them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tokenface.core.files import discard, make_folder, write_atomically
from tokenface.core.hub_files import WEIGHTS_FILE, download, one_line
from tokenface.errors import CheckpointError
from tokenface.inference.checkpoint import read_metadata
from tokenface.weights import COMPANIONS, companion, companion_names

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CARD = "README.md"

METRICS = {
    "photo_nme": ("landmarks on photos of people kept out of training", "% of the box's size"),
    "synthetic_nme": ("landmarks on rendered people kept out of training", "% of the box's size"),
    "neutral_mm": ("neutral head of rendered people", "mm"),
    "neutral_ratio": ("the same over the mean head's error", "ratio"),
    "photo_nme_unbiased": ("landmarks on photos of people kept out, annotators' bias removed", "% of the box's size"),
    "expression_baseline": ("25th percentiles of the actions on photos, summed; 0 is right", "sum"),
    "mean_prediction_mm": ("mean neutral head on photos from the mean head", "mm"),
    "within_between": ("shapes of a person's photos over people's", "ratio"),
    "r2_actions": ("actions of rendered people kept out, mean", "r²"),
    "r2_shape": ("shape of rendered people kept out", "r²"),
    "r2_light": ("light of rendered people kept out", "r²"),
    "cheek_correlation": ("cheek albedo of rendered people kept out", "correlation"),
}
"""Metrics of a checkpoint that a reader of the card understands: what they measure, unit."""


DOWNLOADING = ("revision", "token", "cache_dir", "force_download", "local_files_only")
LOADING = ("device", "runtime", "precision")


class HubModel:
    """The Hub's three methods of a reconstructor, as `huggingface_hub.ModelHubMixin` names them, which is imported when
    one of them is called. `path` is the model's checkpoint, companions beside it."""

    path: Path | None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """A model from the Hub ("owner/name") or from a folder that `save_pretrained` wrote.

        Args:
            options: `revision`, `token`, `cache_dir`, `force_download`, `local_files_only` of huggingface_hub;
                `device`, `runtime`, `precision` as `tokenface.load`.
        Raises:
            CheckpointError: no such repository or folder, no network, not a checkpoint.
        """
        if unknown := sorted(set(options) - {*DOWNLOADING, *LOADING}):
            raise TypeError(f"from_pretrained has no option '{unknown[0]}'; it has {', '.join(DOWNLOADING + LOADING)}")
        where = {name: options[name] for name in DOWNLOADING if name in options}
        load: Any = cls.load  # type: ignore[attr-defined]
        with one_line(str(pretrained_model_name_or_path)):
            checkpoint = download(str(pretrained_model_name_or_path), companion_names(WEIGHTS_FILE), **where)
        return load(checkpoint, **{name: options[name] for name in LOADING if name in options})

    def save_pretrained(
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **options: Any
    ) -> str | None:
        """Write `model.safetensors`, `config.json` and a model card (unless there is a `README.md`).

        Args:
            push_to_hub: upload them too, into `repo_id` (default: the folder's name).  options: of `push_to_hub`.
        Returns:
            The commit's URL, or None.
        Raises:
            CheckpointError: the model was not loaded from a checkpoint.  OutputError: not writable.
        """
        folder = make_folder(save_directory)
        self._save(folder, repo_id)
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str = "Push model using huggingface_hub.",
        **options: Any,
    ) -> str:
        """Upload into the repository "owner/name" of the Hub, which is made if there is none; returns the commit's URL.

        Args:
            options: of `huggingface_hub.HfApi.upload_folder` (`create_pr`, `allow_patterns`, …).
        Raises:
            CheckpointError: not logged in, no permission, no network.
        """
        from huggingface_hub import HfApi

        with one_line(repo_id), tempfile.TemporaryDirectory() as temporary:
            api = HfApi(token=token)
            name = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
            self._save(Path(temporary), repo_id)
            commit = api.upload_folder(
                repo_id=name, repo_type="model", folder_path=temporary, commit_message=commit_message, revision=branch,
                **options,
            )  # fmt: skip
        return str(commit)

    def generate_model_card(self, repo_id: str | None = None) -> ModelCard:
        """The card of this checkpoint, from its metadata."""
        source = self._checkpoint()
        return model_card(source.stem, read_metadata(source), repo_id)

    def _save(self, folder: Path, repo_id: str | None) -> None:
        source = self._checkpoint()
        if source.resolve() != (folder / WEIGHTS_FILE).resolve():
            write_atomically(folder / WEIGHTS_FILE, source.read_bytes())
        for kind in COMPANIONS:
            ours, theirs = companion(source, kind), companion(folder / WEIGHTS_FILE, kind)
            if ours.is_file():
                write_atomically(theirs, ours.read_bytes())
            else:
                discard(theirs)  # of other weights that were saved there before
        text = json.dumps({"tokenface": public_facts(read_metadata(source))}, indent=1, sort_keys=True)
        write_atomically(folder / "config.json", text.encode())
        if not (folder / CARD).exists():
            write_atomically(folder / CARD, str(self.generate_model_card(repo_id)).encode())

    def _checkpoint(self) -> Path:
        if self.path is None:
            raise CheckpointError("this model was not loaded from a checkpoint; save one with save_checkpoint first")
        return self.path


def public_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts for `config.json`: all but the training configuration, which names its owner's paths."""
    training = {key: value for key, value in facts.get("training", {}).items() if key != "config"}
    return {**facts, "training": training} if training else {k: v for k, v in facts.items() if k != "training"}


def model_card(name: str, facts: dict[str, Any], repo_id: str | None = None) -> ModelCard:
    """Model card of a checkpoint, from its metadata."""
    from huggingface_hub import ModelCard, ModelCardData

    network, head, training = facts["network"], facts["head"], facts.get("training", {})
    licence = str(facts.get("licence", "")).split(";")[0].strip().lower()
    data = ModelCardData(
        library_name="tokenface",
        pipeline_tag="image-to-3d",
        license=licence or None,
        tags=["3d-face-reconstruction", "face-alignment", "arkit", head["name"], "model_hub_mixin"],
    )
    rows = [
        ("network", f"TokenFace, {network['tokens']} component tokens, backbone `{network['backbone']}`"),
        ("input", f"face crop, {network['image_size']} × {network['image_size']} RGB in [0, 1]"),
        ("head model", f"{head['name']}, {head['vertices']} vertices ({head['licence']})"),
        ("crop", f"box of the 68 landmarks × {facts['crop']}" if "crop" in facts else ""),
        ("licence", str(facts.get("licence", ""))),
        ("trained on", _trained_on(training)),
    ]
    lines = ["---", data.to_yaml(), "---", "", f"# {name}", "", "One photo of a face into a 3-D head (TokenFace)."]
    lines += ["", "```python", "import tokenface", ""]
    lines += [f'model = tokenface.Reconstructor.from_pretrained("{repo_id or "owner/name"}")']
    lines += ['model.reconstruct("photo.jpg")[0].save("head.glb")', "```", "", "| | |", "| --- | --- |"]
    lines += [f"| {label} | {value} |" for label, value in rows if value]
    known = [(METRICS[key], value) for key, value in facts.get("metrics", {}).items() if key in METRICS]
    if known:
        lines += ["", "## Validation at the end of training", "", "| | | |", "| --- | --- | --- |"]
        lines += [f"| {what} | {value:.3g} | {unit} |" for (what, unit), value in known]
    lines += ["", "Not for identifying people, or for judging who somebody is or how they feel.", ""]
    return ModelCard("\n".join(lines))


def _trained_on(training: dict[str, Any]) -> str:
    parts = []
    if training.get("images"):
        parts.append(f"{training['images']:,} images in {training.get('steps', 0):,} steps")
    if training.get("photos"):
        parts.append(f"{training['photos']:,} annotated photos among rendered faces")
    if training.get("started_from"):
        parts.append(f"from the weights {training['started_from']}")
    return ", ".join(parts)
