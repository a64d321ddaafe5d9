"""The lowest layer: sparse kernels that know numpy and numba only.

Nothing here imports torch, transformers or `workbench`; the library's ``execute`` layer brings tensors in and
takes arrays out.
"""
