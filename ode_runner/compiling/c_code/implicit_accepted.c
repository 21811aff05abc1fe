/* The backward pass along diagonally implicit steps: dL/dy0 in `a_found` and dL/dtheta in `sums_found`, from `dys` at the
   times. By the implicit function theorem, a stage y = known + w f(t, y) takes dL/dy to (I - w df/dy)^-T dL/dy. */

#define SWAP(x, y) (other = x, x = y, y = other)

static R jacobian[BATCH * W * W], parts[2][LEARNED], *sums, *dsums;
static Factors factors;

/* Adds cotangent^T df/dy to `a`, and cotangent^T df/dtheta to the sums. */
static void pull_slope(double t, const R *y, const R *cotangent, const R *theta, R *a) {
    static R da[N], *other;
    R time = t;
    piece_slope_vjp(&time, y, cotangent, sums, theta, da, dsums);
    SWAP(sums, dsums);
    for (int n = 0; n < N; ++n) a[n] += da[n];
}

/* Cotangents of the outputs of a step, on its beginning `a0`, its end `a1`, its derivatives `dks` and the slope there. */
static void take_outputs(const double *times, const double *row, long long from, const R *dys, R *a0, R *a1, R *dks,
                         R *df1) {
    double t0 = row[0], t1 = row[1];
    for (long long j = from; j < row[4]; ++j) {
        const R *dy = dys + j * N;
        double x = (times[j] - t0) / (t1 - t0);
        R *whole = times[j] == t1 ? a1 : a0;
        for (int n = 0; n < N; ++n) whole[n] += dy[n];
        for (int i = 0; i <= STAGES && times[j] != t1; ++i) {
            const double *c = QUARTIC[i];
            R weight = (t1 - t0) * x * (c[0] + x * (c[1] + x * (c[2] + x * c[3]))), *dk = i < STAGES ? dks + i * N : df1;
            for (int n = 0; n < N; ++n) dk[n] += weight * dy[n];
        }
    }
}

/* Through the stages of a step, the last one first: adds to the cotangents of y0 and, if a stage is explicit, of f0. */
static void pull_stages(double t0, double t1, const R *places, const R *theta, R *dks, R *a0, R *df0) {
    static R x[N];
    double dt = t1 - t0;
    for (int i = STAGES - 1; i >= 0; --i) {
        double t = stage_time(t0, t1, i), w = dt * A[i][i];
        R *dk = dks + i * N, time = t;
        if (!w) {
            for (int n = 0; n < N; ++n) df0[n] += dk[n];
            continue;
        }
        piece_jacobian(&time, places + i * N, theta, jacobian);
        for (int s = 0; s < BATCH; ++s) for (int r = 0; r < W; ++r) for (int c = 0; c < r; ++c) { /* transposed */
            R *upper = jacobian + (s * W + c) * W + r, *lower = jacobian + (s * W + r) * W + c, other = *upper;
            *upper = *lower, *lower = other;
        }
        factorise(jacobian, w, &factors);
        memcpy(x, dk, sizeof(x));
        solve_factorised(&factors, x);
        memset(dk, 0, sizeof(x));
        pull_slope(t, places + i * N, x, theta, dk);
        for (int n = 0; n < N; ++n) a0[n] += dk[n];
        for (int j = 0; j < i; ++j) for (int n = 0; n < N; ++n) dks[j * N + n] += (R)(dt * A[i][j]) * dk[n];
    }
}

void pull_back(const double *times, const double *steps, long long count, const R *states, const R *places,
               const R *theta, const R *dys, R *a_found, R *sums_found) {
    static R a0[N], a1[N], df0[N], df1[N], dks[STAGES * N];
    sums = parts[0], dsums = parts[1];
    memset(sums, 0, LEARNED * sizeof(R));
    memset(a0, 0, sizeof(a0));
    memset(df0, 0, sizeof(df0));
    for (long long k = count - 1; k >= 0; --k) {
        const double *row = steps + 5 * k;
        memcpy(a1, a0, sizeof(a0));
        memcpy(df1, df0, sizeof(df0));
        memset(a0, 0, sizeof(a0));
        memset(df0, 0, sizeof(df0));
        memset(dks, 0, sizeof(dks));
        take_outputs(times, row, k ? row[-1] : 1, dys, a0, a1, dks, df1);
        if (SLOPES) pull_slope(row[1], states + (k + 1) * N, df1, theta, a1);
        for (int n = 0; n < N; ++n) a0[n] += a1[n];
        for (int i = 0; i < STAGES; ++i)
            for (int n = 0; n < N; ++n) dks[i * N + n] += (R)((row[1] - row[0]) * B[i]) * a1[n];
        pull_stages(row[0], row[1], places + k * STAGES * N, theta, dks, a0, df0);
    }
    if (SLOPES) pull_slope(times[0], states, df0, theta, a0);
    for (int n = 0; n < N; ++n) a_found[n] = a0[n] + dys[n];
    memcpy(sums_found, sums, LEARNED * sizeof(R));
}
