/* The adjoint equation, from each output back to the one before it, as _AdjointSolve.backward of gradients/continuous.py
   solves it. Its state `flat` is y, of M numbers, then dL/dy, then dL/dtheta. Behind the values in `theta` is room for
   dL/dq of the integrals, Q numbers. */

typedef struct {
    long long accepted, rejected, evaluations;
    double smallest;
} Tally;

/* Leaves dL/dy0 and dL/dtheta in `flat`; returns 0, or -1 where Python has to see to it. `first` is as in `solve`. */
long long solve_back(const double *times, long long count, double first, const Control *control, const R *ys,
                     const R *dys, const R *dqs, R *theta, long long room, R *states, double *steps, R *flat,
                     Tally *tally) {
    static R found[2 * N];
    R *of_integrals = theta + VALUES;
    memset(of_integrals, 0, Q * sizeof(R));
    memset(flat, 0, N * sizeof(R));
    memcpy(flat + M, dys + (count - 1) * M, M * sizeof(R));
    for (long long i = count - 1; i > 0; --i) {
        double span[2] = {times[i], times[i - 1]};
        long long attempts;
        memcpy(flat, ys + i * M, M * sizeof(R));
        for (int j = 0; j < Q; ++j) of_integrals[j] += dqs[i * Q + j];
        long long accepted = solve(span, 2, first, control, flat, theta, room, states, steps, found, &attempts);
        if (accepted < 0) return -1;
        memcpy(flat, found + N, N * sizeof(R));
        for (int j = 0; j < M; ++j) flat[M + j] += dys[(i - 1) * M + j];
        tally->evaluations += (first ? 1 : 2) + attempts * (STAGES - 1);
        tally->accepted += accepted;
        tally->rejected += attempts - accepted;
        for (long long k = 0; k < accepted - (accepted > 1); ++k) /* the last one is cut short by the end */
            tally->smallest = fmin(tally->smallest, fabs(steps[5 * k + 1] - steps[5 * k]));
        first = steps[5 * (accepted - 1) + 2];
    }
    return 0;
}
