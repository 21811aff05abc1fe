/* The backward pass along the accepted steps of `solve`: dL/dy0 in `a_found` and dL/dtheta in `sums_found`, from `dys`
   at the times. LEARNED is how many numbers of theta are learned; DENSE says whether outputs may lie within steps. */

#define SWAP(x, y) (other = x, x = y, y = other)

void pull_back(const double *times, const double *steps, long long accepted, const R *states, const R *theta,
               const R *dys, R *a_found, R *sums_found) {
    static R cotangents[2][N], parts[2][LEARNED], dcurve[5 * N];
    R *a = cotangents[0], *da = cotangents[1], *sums = parts[0], *dsums = parts[1], *other;
    memset(a, 0, N * sizeof(R));
    memset(sums, 0, LEARNED * sizeof(R));
    for (long long k = accepted - 1; k >= 0; --k) {
        const double *row = steps + 5 * k, t0 = row[0], t1 = row[1];
        long long from = k ? row[-1] : 1, to = row[4];
        R clock[3] = {t0, t1, t1 - t0};
#if DENSE
        int within = 0;
        for (long long j = from; j < to; ++j) within |= times[j] != t1;
        if (within) {
            memset(dcurve, 0, sizeof(dcurve));
            for (long long j = from; j < to; ++j) for (int p = 0; p < 5; ++p) {
                R power = pow((times[j] - t0) / (t1 - t0), p);
                for (int i = 0; i < N; ++i) dcurve[p * N + i] += power * dys[j * N + i];
            }
            piece_dense_step_vjp(clock, states + k * N, a, dcurve, sums, theta, da, dsums);
            SWAP(a, da), SWAP(sums, dsums);
            continue;
        }
#endif
        for (long long j = from; j < to; ++j) for (int i = 0; i < N; ++i) a[i] += dys[j * N + i];
        piece_step_vjp(clock, states + k * N, a, sums, theta, da, dsums);
        SWAP(a, da), SWAP(sums, dsums);
    }
    for (int i = 0; i < N; ++i) a_found[i] = a[i] + dys[i];
    memcpy(sums_found, sums, LEARNED * sizeof(R));
}
