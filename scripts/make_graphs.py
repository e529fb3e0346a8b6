"""Graph templates of the shipped weights and of face parsing (`tokenface.deploy.templates`), in assets/graphs.

    python scripts/make_graphs.py

Makes those that are missing and removes those of no shipped weights; a minute of a processor for each architecture.
Needed when a shipped network's configuration changes; other weights of the same architecture need nothing.
"""

from tokenface.deploy.template_maker import make_parsing_template, make_template
from tokenface.deploy.templates import template_key
from tokenface.graphs.templates import templates_folder
from tokenface.head.registry import load_head
from tokenface.inference.checkpoint import read_metadata
from tokenface.network.config import NetworkConfig
from tokenface.parsing.graph import TEMPLATE
from tokenface.weights import WEIGHTS


def main() -> None:
    folder, kept = templates_folder(), {TEMPLATE}
    if not (folder / TEMPLATE).is_file():
        make_parsing_template(folder)
    for entry in WEIGHTS.values():
        facts = read_metadata(entry.path)
        config = NetworkConfig.from_dict(facts["network"])
        sizes = load_head(facts["head"]["name"]).sizes
        path = folder / f"{template_key(config, sizes)}.safetensors"
        kept.add(path.name)
        if not path.is_file():
            make_template(config, sizes, folder)
        print(f"{entry.name}: {path.name}, {path.stat().st_size} bytes")
    for path in folder.glob("*.safetensors"):
        if path.name not in kept:
            path.unlink()


if __name__ == "__main__":
    main()
