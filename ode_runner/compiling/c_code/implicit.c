/* Diagonally implicit steps, as in solvers/diagonally_implicit.py. */

/* y1 and the derivatives `ks` of a step, and where the stages are; 0 where Newton's method fails. */
static int take_step(double t0, double t1, const R *y0, const R *f0, const Tolerance *tolerance, const R *theta,
                     R *places, R *ks, R *y1) {
    static R known[N], place[N];
    double dt = t1 - t0;
    memcpy(place, y0, sizeof(place));
    memcpy(y1, y0, sizeof(place));
    for (int i = 0; i < STAGES; ++i) {
        double w = dt * A[i][i];
        R *k = ks + i * N;
        if (!w) memcpy(k, f0, sizeof(place)); /* an explicit stage, or a step over no time */
        else {
            memcpy(known, y0, sizeof(known));
            for (int j = 0; j < i; ++j) for (int n = 0; n < N; ++n) known[n] += (R)(dt * A[i][j]) * ks[j * N + n];
            if (!solve_stage(stage_time(t0, t1, i), known, w, tolerance, t0, y0, theta, place)) return 0;
            memcpy(places + i * N, place, sizeof(place));
            for (int n = 0; n < N; ++n) k[n] = (place[n] - known[n]) / (R)w;
        }
        for (int n = 0; n < N; ++n) y1[n] += (R)(dt * B[i]) * k[n];
    }
    return 1;
}
