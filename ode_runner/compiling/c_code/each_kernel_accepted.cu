/* The backward pass along the accepted steps of each_kernel.cu, those of one sample in each thread. LEARNED is how many
   numbers of theta are learned. */

/* Adds the cotangents of the outputs of a step from number `j` on; returns whether one of them lies within it. */
static int take_outputs(const double *times, const double *step, long long j, const R *dys, long long apart, R *a, R *dcurve) {
    int dense = 0;
    for (int i = 0; i < 5 * W; ++i) dcurve[i] = 0;
    for (; j < step[2]; ++j) {
        const R *dy = dys + j * apart;
        if (times[j] == step[1]) {
            for (int i = 0; i < W; ++i) a[i] += dy[i];
            continue;
        }
        R fraction = (times[j] - step[0]) / (step[1] - step[0]), power = 1;
        for (int p = 0; p < 5; ++p, power *= fraction) for (int i = 0; i < W; ++i) dcurve[p * W + i] += power * dy[i];
        dense = 1;
    }
    return dense;
}

/* dL/dy0 of `some` samples from number `from` on in `a_found`, and of each dL/dtheta in `sums_found` (some, LEARNED), from
   `dys` (count, samples, W) at the times, of which `begun` are the first. */
KERNEL pull_back_each(const double *times, long long begun, long long samples, long long from, long long some,
                      const long long *places, const R *states, const double *steps, const R *theta, const R *dys,
                      R *a_found, R *sums_found) {
    long long place = blockIdx.x * (long long)blockDim.x + threadIdx.x, sample = from + place, apart = samples * W;
    if (place >= some) return;
    R a[W], da[W], dcurve[5 * W], sums[LEARNED], dsums[LEARNED], clock[3];
    for (int i = 0; i < W; ++i) a[i] = 0;
    for (int i = 0; i < LEARNED; ++i) sums[i] = 0;
    dys += sample * W;
    for (long long k = places[sample + 1] - 1; k >= places[sample]; --k) {
        const double *step = steps + 3 * k;
        long long before = k > places[sample] ? (long long)step[-1] : begun;
        int dense = take_outputs(times, step, before, dys, apart, a, dcurve);
        clock[0] = step[0], clock[1] = step[1], clock[2] = step[1] - step[0];
        if (dense) piece_dense_step_vjp(clock, states + k * W, a, dcurve, sums, theta, da, dsums);
        else piece_step_vjp(clock, states + k * W, a, sums, theta, da, dsums);
        memcpy(a, da, sizeof(a)), memcpy(sums, dsums, sizeof(sums));
    }
    for (long long j = 0; j < begun; ++j) for (int i = 0; i < W; ++i) a[i] += dys[j * apart + i];
    memcpy(a_found + sample * W, a, sizeof(a));
    memcpy(sums_found + place * LEARNED, sums, sizeof(sums));
}

/* The pieces alone, of one sample, to be compared with what they were made of. */
KERNEL call_step_vjp(const R *clock, const R *y, const R *a, const R *sums, const R *theta, R *da, R *dsums) {
    piece_step_vjp(clock, y, a, sums, theta, da, dsums);
}

KERNEL call_dense_step_vjp(const R *clock, const R *y, const R *a, const R *dcurve, const R *sums, const R *theta, R *da,
                           R *dsums) {
    piece_dense_step_vjp(clock, y, a, dcurve, sums, theta, da, dsums);
}
