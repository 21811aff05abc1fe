/* Steps on a fixed grid, and the backward pass along them. R is the type of numbers, N how many a state has, LEARNED how
   many of theta are learned, and GAINS how much a step adds to integrals; INPUTS(k) are a step's own inputs. Without
   BACK there is no backward pass. */

#define SWAP(x, y) (other = x, x = y, y = other)
#if GAINS
#define GAINED(gains, k) , gains + (k) * GAINS
#else
#define GAINED(gains, k)
#endif

/* States at the times of the grid, the first of which is y0's, and of these the `outputs` that `served` counts, from
   0 on and in ascending order; in `gains` what each step adds to integrals. */
void take(const R *const *inputs, long long steps, const long long *served, long long outputs, const R *y0,
          const R *theta, R *states, R *ys, R *gains) {
    memcpy(states, y0, N * sizeof(R));
    for (long long k = 0; k < steps; ++k)
        piece_run(INPUTS(k), states + k * N, theta, states + (k + 1) * N GAINED(gains, k));
    for (long long j = 0; j < outputs; ++j) memcpy(ys + j * N, states + served[j] * N, N * sizeof(R));
}

#if BACK
static void add(R *a, const R *x) {
    for (int i = 0; i < N; ++i) a[i] += x[i];
}

/* dL/dy0 in `a_found` and dL/dtheta in `sums_found`, from `dys` at the outputs and `dgains` of every step. */
void pull_back(const R *const *inputs, long long steps, const long long *served, long long outputs, const R *states,
               const R *theta, const R *dys, const R *dgains, R *a_found, R *sums_found) {
    static R cotangents[2][N], parts[2][LEARNED];
    R *a = cotangents[0], *da = cotangents[1], *sums = parts[0], *dsums = parts[1], *other;
    long long j = outputs - 1;
    memset(a, 0, N * sizeof(R));
    memset(sums, 0, LEARNED * sizeof(R));
    for (long long k = steps; k > 0; --k) {
        for (; served[j] == k; --j) add(a, dys + j * N);
        piece_run_vjp(INPUTS(k - 1), states + (k - 1) * N, a GAINED(dgains, k - 1), sums, theta, da, dsums);
        SWAP(a, da), SWAP(sums, dsums);
    }
    for (; j >= 0; --j) add(a, dys + j * N);
    memcpy(a_found, a, N * sizeof(R));
    memcpy(sums_found, sums, LEARNED * sizeof(R));
}
#endif
