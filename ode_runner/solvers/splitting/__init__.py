"""Splitting methods: parts of the field take turns, as in leapfrog and Strang splitting."""
