/* The backward pass along the accepted steps of `solve_each`: dL/dy0 in `a_found` and dL/dtheta in `sums_found`, from `dys`
   at the times. LEARNED is how many numbers of theta are learned; DENSE says whether outputs may lie within steps. */

#define SWAP(x, y) (other = x, x = y, y = other)

static R y[N], clock[3 * LANES], dcurve[5 * N];

/* Adds the cotangents of the outputs of a step; returns whether one of them lies within it. */
static int take_outputs(const double *times, long long samples, const double *row, long long from, long long sample,
                        const R *dys, R *a, int lane) {
    int dense = 0;
    for (long long j = from; j < row[2]; ++j) {
        const R *dy = dys + (j * samples + sample) * W;
        int within = times[j] != row[1];
        for (int i = 0; i < W && !within; ++i) a[i] += dy[i];
        for (int p = 0; p < 5 && within; ++p) {
            R power = pow((times[j] - row[0]) / (row[1] - row[0]), p);
            for (int i = 0; i < W; ++i) dcurve[p * N + lane * W + i] += power * dy[i];
        }
        dense |= within;
    }
    return dense;
}

void pull_back_each(const double *times, long long begun, long long samples, const double *steps, const long long *counts,
                    const R *states, const R *theta, const R *dys, R *a_found, R *sums_found) {
    static R cotangents[2][N], parts[2][LEARNED];
    R *a = cotangents[0], *da = cotangents[1], *sums = parts[0], *dsums = parts[1], *other;
    long long sample[LANES], step[LANES], next = 0;
    for (int i = 0; i < LANES; ++i) step[i] = -1;
    memset(sums, 0, LEARNED * sizeof(R));
    for (;;) {
        int active = 0, dense = 0;
        if (DENSE) memset(dcurve, 0, sizeof(dcurve));
        for (int i = 0; i < LANES; ++i) {
            if (step[i] < 0) memset(a + i * W, 0, W * sizeof(R)); /* a lane at rest repeats a step that counts nothing */
            if (step[i] < 0 && next < samples) step[i] = counts[3 * next + 2], sample[i] = next++;
            if (step[i] < 0) continue;
            const double *row = steps + 4 * step[i];
            long long before = row[3], from = before < 0 ? begun : steps[4 * before + 2];
            memcpy(y + i * W, states + step[i] * W, W * sizeof(R));
            clock[i] = row[0], clock[LANES + i] = row[1], clock[2 * LANES + i] = row[1] - row[0];
            dense |= take_outputs(times, samples, row, from, sample[i], dys, a + i * W, i);
            active = 1;
        }
        if (!active) break;
#if DENSE
        if (dense) piece_dense_step_vjp(clock, y, a, dcurve, sums, theta, da, dsums);
        else
#endif
            piece_step_vjp(clock, y, a, sums, theta, da, dsums);
        SWAP(a, da), SWAP(sums, dsums);
        for (int i = 0; i < LANES; ++i) {
            if (step[i] < 0) continue;
            step[i] = steps[4 * step[i] + 3];
            if (step[i] >= 0) continue;
            R *found = a_found + sample[i] * W;
            memcpy(found, a + i * W, W * sizeof(R));
            for (long long j = 0; j < begun; ++j) for (int k = 0; k < W; ++k) found[k] += dys[(j * samples + sample[i]) * W + k];
        }
    }
    memcpy(sums_found, sums, LEARNED * sizeof(R));
}
