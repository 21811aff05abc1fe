"""Functions of tensors as machine code: `recorder` notes their operations, `source` writes them as C, `graph` compiles.

`operations` has a line of C for each operation. The files in C are what calls such functions: steps, their control and
whole solves, which `drivers` puts together.
"""
