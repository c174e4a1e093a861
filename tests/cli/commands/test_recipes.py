"""``squeezeedge recipes``."""

import json

from squeezeedge.training.recipe import embedded_recipes, load_recipe
from tests.cli.conftest import Invoke


def test_the_table(invoke: Invoke) -> None:
    result = invoke("recipes")
    assert result.exit_code == 0
    for name in ("digits", "cifar10", "cifar10-finetune", "imagenet-squeezenet1_0", "imagenet-simple-bypass"):
        assert name in result.stdout


def test_json(invoke: Invoke) -> None:
    lines = [json.loads(line) for line in invoke("recipes", "--json").stdout.splitlines()]
    assert [line["recipe"] for line in lines] == list(embedded_recipes())
    for line in lines:
        assert line["file"].endswith(f"{line['recipe']}.toml")
        assert line.items() >= load_recipe(line["recipe"]).to_json().items()
