"""Shared by ``compile``, ``eval`` and ``quantize``: data and effort options, quantization with notes and progress."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.completion import one_of
from squeezeedge.cli.model_options import warn
from squeezeedge.cli.options import CALIB_IMAGES
from squeezeedge.cli.output import note, progress
from squeezeedge.errors import UsageError, counted

if TYPE_CHECKING:
    from squeezeedge.calib.selection import Selection
    from squeezeedge.model import Model
    from squeezeedge.quantization.attribution import Attribution
    from squeezeedge.quantization.effort import Effort

__all__ = ["DataOptions", "EffortOptions", "settled"]


def settled(model: Model, images: Selection | None) -> Model:
    """The model of a checkpoint's network, which is tried on images if some are given; assumptions are noted."""
    from squeezeedge.loading import choose_network

    if images is not None:
        model = choose_network(model, images)
    for remark in model.remarks:
        note(remark)
    return model


_PANEL = "Quantization"


@dataclass(frozen=True)
class EffortOptions:
    """How a network that is not yet quantized is quantized."""

    effort: Annotated[
        str | None,
        typer.Option(
            metavar="fast|best",
            autocompletion=one_of(("fast", "best")),
            help="`best` takes minutes and adds 5 % of multiply-accumulates, unless --extra-macs says otherwise. "
            "Default: fast.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    extra_macs: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT%",
            help="Budget of multiply-accumulates for more resolution where it pays: channels are split into coarse "
            "and fine ones. Default: 0%, with `--effort best` 5%.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None

    def check_fixed(self, model: object, **others: object) -> None:
        """Refuse these options, whatever their values, for what is quantized already.

        Args:
            model: which, for the message.
            others: more options that say how a network is quantized; not given: ``None``.

        Raises:
            UsageError: one was given.
        """
        for name, value in (others | vars(self)).items():
            if value is not None:
                raise UsageError(f"`{name}`: {model} is quantized already; give it when the network is quantized")

    def chosen(self) -> Effort:
        """What they say.

        Raises:
            UsageError: there is no such effort, or the budget is no percentage that is possible.
        """
        from squeezeedge.quantization.effort import with_budget

        if self.extra_macs is None:
            return with_budget(self.effort or "fast")
        try:
            percent = float(self.extra_macs.removesuffix("%"))
        except ValueError:
            raise UsageError(f"`extra_macs` {self.extra_macs}: must be a percentage, as 5%") from None
        return with_budget(self.effort or "fast", percent / 100)


@dataclass(frozen=True)
class DataOptions:
    """The data options of the command line, as given.

    Attributes:
        data: images to evaluate on.
        calib: images to calibrate on.
        classes: class list.
        calib_images: how many to calibrate on; ``None``: :data:`CALIB_IMAGES`.
        limit: most images to evaluate on.
        seed: of every random choice.
        strict: an image that cannot be read is an error.
    """

    data: str | None = None
    calib: str | None = None
    classes: Path | None = None
    calib_images: int | None = None
    limit: int | None = None
    seed: int = 0
    strict: bool = False

    def calibration(self, model: Model) -> Selection:
        """The images to calibrate on: some of ``--calib``, else of ``--data``, else of the embedded data set.

        Raises:
            UsageError: none of them is known.
        """
        from squeezeedge.calib.selection import calibration_images

        spec = self.calib or self.data or model.dataset
        if spec is None:
            raise UsageError(f"{model.name}: quantization needs calibration images; give --calib (or --data)")
        count = CALIB_IMAGES if self.calib_images is None else self.calib_images
        return calibration_images(spec, model.labels, count=count, seed=self.seed, classes=self.classes)

    def evaluation(self, model: Model, calibration: Selection | None = None) -> Selection:
        """The images to evaluate on: of ``--data``, else of the embedded data set.

        Those calibrated on are not among them, unless ``--calib`` names them.

        Raises:
            UsageError: no data set is known, or no image is left.
            SqueezeEdgeError: its labels do not fit the network's classes.
        """
        from squeezeedge.calib.selection import evaluation_images

        spec = self.data or model.dataset
        if spec is None:
            raise UsageError(f"{model.name}: evaluation needs images; give --data")
        return evaluation_images(
            spec,
            model.classes,
            model.labels,
            limit=self.limit,
            seed=self.seed,
            classes=self.classes,
            without=None if self.calib else calibration,
        )

    def settled(self, model: Model) -> Model:
        """The model of a checkpoint's network; where several fit, they are tried on the calibration images.

        Raises:
            UsageError: no calibration images are known.
        """
        return settled(model, self.calibration(model) if model.alternatives else None)

    def quantized(self, model: Model, effort: Effort | str = "fast") -> Model:
        """The model with its integer graph, quantized if it is not yet.

        Args:
            model: the network.
            effort: how it is quantized.

        Raises:
            SqueezeEdgeError: see :func:`squeezeedge.model.quantize`.
        """
        from squeezeedge.model import quantize

        if model.integer is not None:
            return model
        images = self.calibration(model)
        for remark in images.remarks:
            note(remark)
        note(f"quantizing {model.name} on {counted(len(images), 'image')} of {images.dataset.name}")
        with progress("quantize", len(images)) as advance:
            quantized = quantize(
                model,
                images,
                strict=self.strict,
                effort=effort,
                on_decode=lambda done: advance(done, "(images)"),
                on_layer=lambda name, index, total: advance(detail=name, done=index, total=total),
            )
        for remark in quantized.remarks[len(model.remarks) :]:
            note(f"warning: {remark}")
        warn(quantized.suspicion)
        return quantized

    def explained(self, model: Model) -> Attribution:
        """The sources of the error of a model that was quantized here, measured on some of its calibration images."""
        from squeezeedge.quantization.attribution import IMAGES, attribute

        assert model.floating is not None and model.integer is not None and model.calibration is not None
        indices = model.calibration.indices
        some = replace(model.calibration, indices=indices[:: -(-len(indices) // IMAGES)])
        with progress("explain", len(some)) as advance:
            return attribute(
                model.floating,
                model.integer,
                some.load(model.preprocessing),
                on_layer=lambda name, index, total: advance(detail=name, done=index, total=total),
            )
