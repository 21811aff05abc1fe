"""Functions of tensors as machine code: `recorder` traces them, `source` writes them as C, `graph` compiles that.

`operations` has C code for each operation, with those of `elementwise`, `reductions`, `indexing`, `convolutions`,
`linear_systems` and `products`; others are recorded as `decompositions`, or PyTorch, take them apart. The files in C
call such functions: they are steps, step control and whole solves, which `drivers` assembles.
"""
