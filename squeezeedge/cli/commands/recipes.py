"""``squeezeedge recipes``: the training recipes of this package."""

from __future__ import annotations

import typer

from squeezeedge.cli.options import Json

__all__ = ["recipes_command", "register"]


def recipes_command(json: Json = False) -> None:
    """List the training recipes; they are .toml files, to be copied and changed."""
    from squeezeedge.cli.output import emit_json, emit_table
    from squeezeedge.training.recipe import embedded_recipes, load_recipe

    rows = []
    for name, path in embedded_recipes().items():
        recipe = load_recipe(name)
        if json:
            emit_json({"recipe": name, "file": str(path), **recipe.to_json()})
        command = "finetune" if recipe.start == "trained" else "train"
        rate = f"{recipe.optimizer.name} {recipe.optimizer.learning_rate:g}"
        shape = f"{recipe.input.size}x{recipe.input.size}"
        rows.append([name, command, shape, str(recipe.epochs), str(recipe.batch_size), rate, recipe.summary])
    if not json:
        emit_table(
            "recipes", ["recipe", "command", "input", "epochs", "batch", "learning rate", "what it trains"], rows
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("recipes")(recipes_command)
