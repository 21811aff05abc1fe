/* first_step of solvers/initial_step.py; 0 where a norm is no number. */
static double first_step(double t0, double span, double order, const R *y0, const R *f0, const R *norms,
                         const R *theta) {
    double h0 = trial_step(norms[0], norms[1], span), h = copysign(h0, span);
    if (!h0) return 0;
    R clock[3] = {t0, t0 + h, h}, change;
    piece_slope_change(clock, y0, f0, theta, &change);
    return chosen_step(h0, norms[1], change / h0, order);
}
