"""Tables, pictures and pages of `ode-report`."""
