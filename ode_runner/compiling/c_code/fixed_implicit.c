/* On a fixed grid, whose times are `grid`: states at all of them, and where the stages of every step are. Returns 0
   where Python has to see to it. `made` are evaluations and Jacobians. */
long long take_grid(const double *grid, long long count, const R *theta, R *states, R *places, long long *made) {
    static R f[N], ks[STAGES * N];
    const Tolerance rounding = {ROUNDING, 3 + 2 * W < 15 ? 3 + 2 * W : 15, 0};
    work = (Work){0, 0}, newton.frozen = 0;
    for (long long k = 0; k + 1 < count; ++k) {
        R *y = states + k * N;
        if (!A[0][0]) slope(grid[k], y, theta, f);
        if (!take_step(grid[k], grid[k + 1], y, f, &rounding, theta, places + k * STAGES * N, ks, y + N)) return 0;
    }
    made[0] = work.evaluations, made[1] = work.jacobians;
    return 1;
}
