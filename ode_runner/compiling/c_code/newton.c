/* Newton's method for one implicit stage of all samples, as in solvers/newton.py: y = known + w f(t, y). W is how many
   numbers a sample has, BATCH how many samples there are, N the numbers of a state. */

#define FAST 0.2
#define NOISE 64
#define LEAST 1e-2
#define KEEPING 1e-3
#define ITERATIONS 30
#define ROUNDING (16 * (sizeof(R) == 4 ? 1.1920928955078125e-07 : 2.220446049250313e-16))

typedef struct {
    double limit;
    int iterations, scaled;
} Tolerance;

typedef struct {
    R jacobian[BATCH * W * W]; /* kept as long as the iteration converges with it */
    Factors factors;
    double weight, outlook; /* of the factors, 0 where there are none; what is left after an update in units of it */
    int frozen;
} Newton;

typedef struct {
    long long evaluations, jacobians;
} Work;

static Newton newton;
static Work work;
static R scale[N];
static int exactly = 1; /* to rounding, as stages are solved that are differentiated or taken anew */

static void slope(double t, const R *y, const R *theta, R *dy) {
    R time = t;
    piece_slope(&time, y, theta, dy);
    ++work.evaluations;
}

static void linearise(double t, const R *y, const R *theta, R *jacobian) {
    R time = t;
    piece_jacobian(&time, y, theta, jacobian);
    ++work.jacobians;
}

static double larger(double x, double y) { return isnan(x) || y <= x ? x : y; }

/* The size of an update of y, in units of the tolerance. */
static double size_of(const Tolerance *tolerance, const R *update, const R *y) {
    double most = 0;
    for (int s = 0; s < BATCH; ++s) {
        double squares = 0;
        for (int i = s * W; i < (s + 1) * W; ++i) {
            double part = update[i] / (tolerance->scaled ? scale[i] : 1 + fabs(y[i]));
            squares += part * part;
            if (!tolerance->scaled) most = larger(most, fabs(part));
        }
        if (tolerance->scaled) most = larger(most, sqrt(squares / W));
    }
    return most;
}

static void residual(double t, const R *y, const R *known, double w, const R *theta, R *found) {
    slope(t, y, theta, found);
    for (int i = 0; i < N; ++i) found[i] = known[i] + (R)w * found[i] - y[i];
}

/* Newton._with_the_same: 1, and the solution in `place`, where it converges. */
static int with_the_same(double t, const R *known, double w, const Tolerance *tolerance, const R *theta, R *place) {
    static R y[N], update[N];
    double outlook = pow(fmax(newton.outlook, LEAST), 0.8), before = INFINITY, best = 1;
    if (newton.weight != w) factorise(newton.jacobian, w, &newton.factors), newton.weight = w;
    newton.frozen = 0;
    memcpy(y, place, sizeof(y));
    for (int left = tolerance->iterations - 1; left >= 0; --left) {
        residual(t, y, known, w, theta, update);
        solve_factorised(&newton.factors, update);
        double size = size_of(tolerance, update, y), rate = size / before;
        if (!isfinite(size)) return 0;
        if (best < FAST && rate > 0.5 && !tolerance->scaled && size < NOISE * tolerance->limit) outlook = 0;
        else if (before < INFINITY) {
            if (rate >= 1 || pow(rate, left) / (1 - rate) * size > tolerance->limit) return 0;
            best = fmin(best, rate), outlook = rate / (1 - rate);
        }
        for (int i = 0; i < N; ++i) y[i] += update[i];
        before = size;
        if (outlook * size > tolerance->limit) continue;
        if (tolerance->iterations - left < 3 || rate < KEEPING) newton.frozen = 1, newton.outlook = outlook;
        memcpy(place, y, sizeof(y));
        return 1;
    }
    return 0;
}

/* Newton._linearised_anew, likewise. */
static int linearised_anew(double t, const R *known, double w, const Tolerance *tolerance, const R *theta, R *place) {
    static R y[N], update[N], jacobian[BATCH * W * W];
    static Factors factors;
    double before = INFINITY;
    memcpy(y, place, sizeof(y));
    for (int i = 0; i < ITERATIONS; ++i) {
        linearise(t, y, theta, jacobian);
        factorise(jacobian, w, &factors);
        residual(t, y, known, w, theta, update);
        solve_factorised(&factors, update);
        for (int j = 0; j < N; ++j) y[j] += update[j];
        double size = size_of(tolerance, update, y);
        if (size < tolerance->limit || (before / 2 < size && size < sqrt(ROUNDING))) {
            memcpy(place, y, sizeof(y));
            return 1;
        }
        if (isnan(size)) return 0;
        before = size;
    }
    return 0;
}

/* The Jacobian kept, or a new one at the beginning of the step. */
static void keep_jacobian(double t0, const R *y0, const R *theta) {
    if (newton.frozen) return;
    linearise(t0, y0, theta, newton.jacobian);
    ++work.evaluations;
    newton.frozen = 1, newton.outlook = 1, newton.weight = 0;
}

/* Newton.solve and, if `exactly`, to a tolerance that is not rounding Newton.polished: 1, and the solution in `place`,
   where a guess is. */
static int solve_stage(double t, const R *known, double w, const Tolerance *tolerance, double t0, const R *y0,
                       const R *theta, R *place) {
    const Tolerance rounding = {ROUNDING, 3 + 2 * W < 15 ? 3 + 2 * W : 15, 0};
    int kept = newton.frozen, found;
    keep_jacobian(t0, y0, theta);
    found = with_the_same(t, known, w, tolerance, theta, place);
    if (!found && kept) {
        keep_jacobian(t0, y0, theta);
        found = with_the_same(t, known, w, tolerance, theta, place);
    }
    if (!tolerance->scaled) return found || linearised_anew(t, known, w, tolerance, theta, place);
    if (!found || !exactly) return found;
    keep_jacobian(t0, y0, theta);
    double outlook = newton.outlook;
    found = with_the_same(t, known, w, &rounding, theta, place);
    newton.frozen = 1, newton.outlook = outlook;
    return found || linearised_anew(t, known, w, &rounding, theta, place);
}
