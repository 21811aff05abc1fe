"""Laws of points whose density is learned."""
