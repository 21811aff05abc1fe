/* Step control of adaptive solves: Controller of solvers/step_control.py, and solvers/initial_step.py. */

typedef struct {
    double filter[3], order, safety, shrink, grow, min_step, max_step;
    long long terms, hold, max_attempts;
} Control;

typedef struct {
    double past[2];
    int after_rejection, stuck;
} Memory;

static double limited(const Control *control, double dt) {
    return fmax(control->min_step, fmin(dt, control->max_step));
}

/* Controller.next. */
static double next_step(const Control *control, Memory *memory, double dt, double error) {
    double factor = 1, errors[3] = {error, memory->past[0], memory->past[1]};
    memory->stuck = error > 1 && control->min_step > 0 && dt <= control->min_step;
    if (error > 1) {
        memory->after_rejection = 1;
        factor = fmax(control->safety * pow(error, -1 / control->order), control->shrink);
    } else {
        double most = control->hold && memory->after_rejection ? 1 : control->grow;
        for (int i = 0; i + 1 < control->terms; ++i) memory->past[i] = fmax(errors[i], 1e-4);
        memory->after_rejection = 0;
        for (int i = 0; i < control->terms; ++i) factor *= pow(errors[i], -control->filter[i] / control->order);
        factor = fmin(most, fmax(control->safety * factor, control->terms > 1 ? control->shrink : 1));
        if (error == 0) factor = most;
    }
    return limited(control, dt * factor);
}

/* 0 where a norm is no number. */
static double trial_step(double d0, double d1, double span) {
    if (!isfinite(d0 + d1)) return 0;
    return fmin(fabs(span) / 2, d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1);
}

static double chosen_step(double h0, double d1, double d2, double order) {
    double steepest = fmax(d1, d2);
    double h1 = steepest <= 1e-15 ? fmax(1e-6, 1e-3 * h0) : pow(0.01 / steepest, 1 / order), h = fmin(100 * h0, h1);
    return isfinite(h) ? h : h0;
}

static double noticeable(double dt, double t0) { return fmax(dt, 4 * (nextafter(fabs(t0), INFINITY) - fabs(t0))); }
