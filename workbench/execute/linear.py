"""A linear layer around a weight format: an ordinary module of torch, for inference on the CPU."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from workbench_kernels import KernelError, _memory
from workbench_kernels.formats import WeightFormat
from workbench_kernels.matmul import matmul

from workbench.errors import ArgumentError, ModelError
from workbench.execute.forms import FORMS

DTYPES = (torch.float32, torch.bfloat16)


class Held(NamedTuple):
    """What a sparse layer holds: weights it stands for, those not zero, those stored, bytes that one pass reads."""

    parameters: int
    nonzero: int
    stored: int
    bytes: int


class SparseLinear(nn.Module):
    """``y = x W^T + b`` with W in a weight format.

    It has no gradient and its weight cannot be written. Its ``state_dict`` is that of the dense layer that it stands
    for, so checkpoints stay interchangeable; copies share the stored weight, which never changes.

    Parameters
    ----------
    weight
        W [out, in] in a format.
    form
        Name of the format in `workbench.execute.forms.FORMS`.
    bias
        ``[out]``, or None.
    threads
        How many the kernel uses; None: as many as torch uses at the call.
    dtype
        Of the dense weight that ``state_dict`` writes.
    transposed
        Whether ``state_dict`` writes ``[in, out]``, as GPT-2's layers do.

    Attributes
    ----------
    format : WeightFormat
    in_features, out_features : int

    Examples
    --------
    >>> layer = SparseLinear(FORMS["bitmap"].build(np.eye(4, dtype=np.float32)), "bitmap")
    >>> layer(torch.ones(2, 4)).tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        weight: WeightFormat,
        form: str,
        bias: nn.Parameter | None = None,
        *,
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.format, self.form, self.threads = weight, form, threads
        self.out_features, self.in_features = weight.shape
        self.dtype, self.transposed = dtype, transposed
        self.register_parameter("bias", bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply activations ``[..., in]``, float32 or bf16 on the CPU; the result has their dtype.

        Raises
        ------
        ModelError
            If a gradient is asked for, or the activations are of another kind.
        """
        self._check(x)
        given = (x.detach() if x.requires_grad else x).reshape(-1, self.in_features).contiguous()
        bias = self._parameters["bias"]
        added = None if bias is None else bias.detach().float().numpy()
        threads = self.threads or torch.get_num_threads()
        try:
            if x.dtype == torch.float32:
                out = torch.from_numpy(matmul(self.format, given.numpy(), bias=added, threads=threads))
            else:
                raw = given.view(torch.uint16).numpy()
                out = torch.from_numpy(matmul(self.format, raw, bias=added, threads=threads)).view(torch.bfloat16)
        except KernelError as error:
            raise ArgumentError(f"{self.format.name}: {error}") from error
        return out.view(*x.shape[:-1], self.out_features)

    def _check(self, x: torch.Tensor) -> None:
        if torch.is_grad_enabled() and x.requires_grad:
            raise ModelError(
                "a sparse layer has no gradient: run it within torch.no_grad(), and train the dense model instead"
            )
        if x.dtype not in DTYPES or x.device.type != "cpu":
            raise ModelError(f"x is {x.dtype} on {x.device}: a sparse layer takes float32 or bfloat16 on the CPU")
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ModelError(f"x has shape {tuple(x.shape)}: its last axis must be {self.in_features}, the inputs")

    @property
    def weight(self) -> torch.Tensor:
        """The matrix ``[out, in]`` that is multiplied by, made dense anew and not to be written into."""
        with torch.inference_mode():  # torch refuses to write into what was made here
            return torch.from_numpy(self.format.to_dense()).to(self.dtype)

    @property
    def held(self) -> Held:
        """What `workbench.size` and `workbench.cost` count."""
        nonzero = int(np.count_nonzero(self.format.to_dense()))
        count = self.in_features * self.out_features
        return Held(count, nonzero, int(self.format.stored), int(self.format.nbytes))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise ModelError("a sparse layer's weight cannot be set: change the dense model and sparsify it again")
        super().__setattr__(name, value)

    def _apply(self, fn: Any, recurse: bool = True) -> SparseLinear:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype  # e.g. of ``module.to(torch.bfloat16)``
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        """Sizes and format."""
        kept = self.format.stored / (self.in_features * self.out_features)
        return f"{self.in_features} -> {self.out_features}, {self.format.name}, {kept:.1%} stored"

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseLinear:
        fresh = type(self).__new__(type(self))
        memo[id(self)], memo[id(self.format)] = fresh, self.format
        fresh.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return fresh

    def __getstate__(self) -> dict[str, Any]:
        held = {f.name: getattr(self.format, f.name) for f in fields(self.format)}
        return self.__dict__ | {"format": (type(self.format), held)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, held = state["format"]  # arrays come back anywhere in memory: kernels want them aligned, with slack
        arrays = {k: _memory.aligned(v) if isinstance(v, np.ndarray) else v for k, v in held.items()}
        super().__setstate__(state | {"format": kind(**arrays)})

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        weight = torch.from_numpy(self.format.to_dense()).to(self.dtype)
        destination[prefix + "weight"] = weight.T.contiguous() if self.transposed else weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        name = prefix + "weight"
        given = state_dict.get(name)
        if given is None:
            missing_keys.append(name)
        else:
            dense = (given.T if self.transposed else given).detach().float().contiguous()
            try:
                if tuple(dense.shape) != self.format.shape:
                    raise ArgumentError(f"shape {tuple(dense.shape)}, wanted {self.format.shape}")
                self.format = FORMS[self.form].build(dense.numpy(), self.format.values)
            except ArgumentError as error:
                error_msgs.append(f"{name}: {error}")
        rest = {k: v for k, v in state_dict.items() if k != name}
        extra: list[str] = []
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, extra, error_msgs)
        unexpected_keys += extra
