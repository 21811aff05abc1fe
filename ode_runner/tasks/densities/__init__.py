"""Tasks with distributions of points, whose density is learned."""
