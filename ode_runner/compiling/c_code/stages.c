/* Linear systems of all samples of a batch of BATCH, of W numbers each. STAGES, A, B, C, B_ERROR and QUARTIC are the
   tableau's. */

typedef struct {
    R matrix[BATCH * W * W]; /* I - w df/dy of every sample, in triangular factors */
    int rows[BATCH * W];
} Factors;

static void factorise(const R *jacobian, double w, Factors *found) {
    for (int s = 0; s < BATCH; ++s) {
        R (*m)[W] = (R (*)[W])(found->matrix + s * W * W);
        for (int i = 0; i < W; ++i) for (int j = 0; j < W; ++j) m[i][j] = (i == j) - (R)w * jacobian[(s * W + i) * W + j];
        for (int k = 0; k < W; ++k) {
            int pivot = k;
            for (int i = k + 1; i < W; ++i) if (fabs(m[i][k]) > fabs(m[pivot][k])) pivot = i;
            found->rows[s * W + k] = pivot;
            for (int j = 0; j < W && pivot != k; ++j) {
                R other = m[k][j];
                m[k][j] = m[pivot][j], m[pivot][j] = other;
            }
            for (int i = k + 1; i < W; ++i) {
                m[i][k] /= m[k][k];
                for (int j = k + 1; j < W; ++j) m[i][j] -= m[i][k] * m[k][j];
            }
        }
    }
}

/* The solution of every sample's equations in the place of their right-hand sides. */
static void solve_factorised(const Factors *found, R *x) {
    for (int s = 0; s < BATCH; ++s, x += W) {
        const R (*m)[W] = (const R (*)[W])(found->matrix + s * W * W);
        for (int k = 0; k < W; ++k) {
            int pivot = found->rows[s * W + k];
            R other = x[k];
            x[k] = x[pivot], x[pivot] = other;
        }
        for (int i = 1; i < W; ++i) for (int j = 0; j < i; ++j) x[i] -= m[i][j] * x[j];
        for (int i = W - 1; i >= 0; --i) {
            for (int j = i + 1; j < W; ++j) x[i] -= m[i][j] * x[j];
            x[i] /= m[i][i];
        }
    }
}

static double stage_time(double t0, double t1, int i) { return fabs(C[i] - 1) < 1e-9 ? t1 : t0 + C[i] * (t1 - t0); }
