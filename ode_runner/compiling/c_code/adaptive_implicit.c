/* Adaptive solves by diagonally implicit steps, as in solvers/implicit.py and embedded.py. */

static double error_of(double dt, const R *y0, const R *y1, const R *ks, double rtol, double atol) {
    double squares = 0;
    for (int n = 0; n < N; ++n) {
        R difference = 0;
        for (int i = 0; i < STAGES; ++i) difference += (R)(dt * B_ERROR[i]) * ks[i * N + n];
        double part = difference / (atol + rtol * fmax(fabs(y0[n]), fabs(y1[n])));
        squares += part * part;
    }
    return sqrt(squares / N);
}

/* The output at a time within a step, by its dense output. */
static void put_within(double t, double t0, double t1, const R *y0, const R *ks, const R *f1, R *output) {
    double x = (t - t0) / (t1 - t0);
    memcpy(output, y0, N * sizeof(R));
    for (int i = 0; i <= STAGES; ++i) {
        const double *c = QUARTIC[i];
        R weight = (t1 - t0) * x * (c[0] + x * (c[1] + x * (c[2] + x * c[3])));
        const R *k = i < STAGES ? ks + i * N : f1;
        for (int n = 0; n < N; ++n) output[n] += weight * k[n];
    }
}

/* As `solve` of adaptive.c, with the state at the end behind those where steps begin, and where their stages are. */
long long solve_implicit(const double *times, long long count, double first, const Control *control, double rtol,
                         double atol, const R *y0, const R *theta, long long room, R *states, R *places, double *steps,
                         R *ys, long long *made, long long to_rounding) {
    static R f[N], f1[N], ks[STAGES * N];
    double t = times[0], end = times[count - 1], span = end - t, sign = span > 0 ? 1 : -1, dt = first;
    long long accepted = 0, failed = 0, done = 1, attempts = 0;
    Tolerance tolerance = {fmax(ROUNDING / rtol, fmin(0.03, sqrt(rtol))), 7, 1};
    Memory memory = {{1, 1}, 0, 0};
    R *y = states, clock[1] = {t}, norms[2];
    work = (Work){1, 0}, newton.frozen = 0, exactly = to_rounding;
    memcpy(states, y0, N * sizeof(R));
    memcpy(ys, y0, N * sizeof(R));
    piece_begin(clock, y, theta, f, norms);
    if (!first) dt = first_step(t, span, control->order, y, f, norms, theta), ++work.evaluations;
    if (!dt) return -1;
    dt = noticeable(limited(control, dt), t);
    while (done < count) {
        double left = fabs(end - t), wanted = dt, t1 = t + sign * dt;
        if (dt > 0.99 * left) dt = left, t1 = end;
        if (t1 == t || memory.stuck || attempts == control->max_attempts || accepted + 1 == room) return -1;
        for (int n = 0; n < N; ++n) scale[n] = atol + rtol * fabs(y[n]);
        R *stages = places + accepted * STAGES * N;
        int found = take_step(t, t1, y, f, &tolerance, theta, stages, ks, y + N);
        double error = found ? error_of(t1 - t, y, y + N, ks, rtol, atol) : NAN;
        ++attempts;
        if (isnan(error)) error = pow(2 * control->safety, control->order);
        dt = next_step(control, &memory, dt, error);
        if (error > 1) {
            ++failed;
            continue;
        }
        slope(t1, y + N, theta, f1);
        for (; done < count && sign * (times[done] - t1) <= 0; ++done) {
            if (times[done] == t1) memcpy(ys + done * N, y + N, N * sizeof(R));
            else put_within(times[done], t, t1, y, ks, f1, ys + done * N);
        }
        double row[5] = {t, t1, fmax(dt, wanted), failed, done};
        memcpy(steps + 5 * accepted++, row, sizeof(row));
        memcpy(f, f1, sizeof(f));
        y += N, t = t1, failed = 0;
    }
    made[0] = work.evaluations, made[1] = work.jacobians;
    return accepted;
}
