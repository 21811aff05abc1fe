/* A whole adaptive solve: what AdaptiveRungeKutta.steps does, along compiled pieces. R is the type of numbers, N how
   many a state has. What is out of the ordinary is left to Python, which solves anew and says what is wrong. */

/* States at the `count` times, the first of which is y0's, in `ys`; in `states` where accepted steps begin, and in
   `steps` for each of them t0, t1, the size tried next, attempts that failed before it, and how many outputs are done
   after it. Returns the number of steps, or -1 where Python has to see to it; `first` is 0 if nobody has chosen it. */
long long solve(const double *times, long long count, double first, const Control *control, const R *y0, const R *theta,
                long long room, R *states, double *steps, R *ys, long long *attempts) {
    static R slopes[2][N], curve[5 * N];
    double t = times[0], end = times[count - 1], span = end - t, sign = span > 0 ? 1 : -1, dt = first;
    long long accepted = 0, failed = 0, done = 1;
    Memory memory = {{1, 1}, 0, 0};
    R clock[3] = {t}, norms[2], error, *f = slopes[0], *f1 = slopes[1], *y = states;
    memcpy(states, y0, N * sizeof(R));
    memcpy(ys, y0, N * sizeof(R));
    *attempts = 0;
    piece_begin(clock, y, theta, f, norms);
    if (!first) dt = first_step(t, span, control->order, y, f, norms, theta);
    if (!dt) return -1;
    dt = noticeable(limited(control, dt), t);
    while (done < count) {
        double left = fabs(end - t), wanted = dt, t1 = t + sign * dt;
        if (dt > 0.99 * left) dt = left, t1 = end;
        if (t1 == t || memory.stuck || *attempts == control->max_attempts || accepted + 1 == room) return -1;
        clock[0] = t, clock[1] = t1, clock[2] = t1 - t;
        piece_step(clock, y, f, theta, y + N, &error, f1, curve);
        ++*attempts;
        dt = next_step(control, &memory, dt, isnan(error) ? INFINITY : error);
        if (!(error <= 1)) {
            ++failed;
            continue;
        }
        for (; done < count && sign * (times[done] - t1) <= 0; ++done) {
            R *output = ys + done * N;
            memcpy(output, times[done] == t1 ? y + N : curve, N * sizeof(R));
            for (int p = 1; p < 5 && times[done] != t1; ++p) {
                R power = pow((times[done] - t) / (t1 - t), p);
                for (int i = 0; i < N; ++i) output[i] += power * curve[p * N + i];
            }
        }
        double row[5] = {t, t1, fmax(dt, wanted), failed, done};
        memcpy(steps + 5 * accepted++, row, sizeof(row));
        R *other = f;
        f = f1, f1 = other, y += N, t = t1, failed = 0;
    }
    return accepted;
}
