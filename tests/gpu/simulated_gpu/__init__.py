"""A simulated GPU: tensors of device cuda in the CPU's memory, so that code for a GPU runs where there is none.

    python -m tests.gpu.simulated_gpu -m pytest tests/gpu/test_captured.py
    python -m tests.gpu.simulated_gpu -m ode_runner task=digits trainer.device=cuda

It shows tensors left on the other device, waits for the GPU where none is allowed, graphs that read memory which has
been freed, numbers that are read before they have been copied, memory written into while it is being copied, and
whether what a graph repeats is what the function does. It does not show kernels, their rounding, streams out of order,
or speed. It needs a PyTorch built with CUDA, as PyPI has it for Linux, and a C compiler; it calls PyTorch by private
names, which may change.
"""
