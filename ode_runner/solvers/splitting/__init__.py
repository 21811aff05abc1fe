"""Splitting methods: parts of the field are solved in turn, as in leapfrog and Strang splitting."""
