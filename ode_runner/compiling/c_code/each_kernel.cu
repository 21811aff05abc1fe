/* An adaptive solve of one sample in each thread of a GPU, by steps of its own, as each.c takes those of many in turn on a
   CPU. W is how many numbers a state has, CONTROL the step control, and FIRST the length of the first step, or 0. What is
   out of the ordinary is left to Python. */

typedef struct { /* of one sample */
    int accepted, attempts;
    long long done; /* of the output times */
} Taken;

typedef struct { /* where the accepted steps of one sample go, for the backward pass */
    R *states;      /* where each begins */
    double *steps;  /* t0, t1, and how many outputs there are after it */
    int *rounds;    /* (2, most): by the number of an attempt, whether one of a sample was accepted, and had outputs within */
    long long most; /* attempts */
    long long room; /* in steps; 0: nothing is noted */
} Notes;

static void set_clock(R *clock, double t0, double t1) {
    clock[0] = t0, clock[1] = t1, clock[2] = t1 - t0;
}

/* The length of the first step, and the slope where it begins; 0 where Python has to see to it. */
static double begin(double t, double span, double order, const R *y, const R *theta, R *slope) {
    R clock[3], norms[2], change[1];
    set_clock(clock, t, t);
    piece_begin(clock, y, theta, slope, norms);
    if (FIRST) return noticeable(FIRST, t);
    double h0 = trial_step(norms[0], norms[1], span);
    if (!h0) return 0;
    set_clock(clock, t, t + copysign(h0, span));
    clock[2] = copysign(h0, span);
    piece_slope_change(clock, y, slope, theta, change);
    return noticeable(chosen_step(h0, norms[1], change[0] / h0, order), t);
}

/* The state at a fraction of a step. */
static void put_within(const R *curve, double fraction, R *output) {
    for (int j = 0; j < W; ++j) {
        R sum = curve[4 * W + j];
        for (int p = 3; p >= 0; --p) sum = sum * (R)fraction + curve[p * W + j];
        output[j] = sum;
    }
}

/* States of one sample at the `count` times, `apart` numbers from each other, from `ys` on. */
static Taken solve(const double *times, long long count, const R *y0, const R *theta, R *ys, long long apart, Notes notes) {
    const Control control = CONTROL;
    double t = times[0], end = times[count - 1], sign = end > t ? 1 : -1;
    R y[W], f[W], y1[W], f1[W], curve[5 * W], clock[3], error[1];
    Memory memory = {{1, 1}, 0, 0};
    Taken taken = {0, 0, 0};
    memcpy(y, y0, sizeof(y));
    for (; taken.done < count && times[taken.done] == t; ++taken.done) memcpy(ys + taken.done * apart, y, sizeof(y));
    double first = begin(t, end - t, control.order, y, theta, f), dt = first ? limited(&control, first) : 0;
    while (taken.done < count) {
        double left = fabs(end - t), t1 = t + sign * dt;
        if (dt > 0.99 * left) dt = left, t1 = end;
        if (t1 == t || memory.stuck || taken.attempts == control.max_attempts) break;
        set_clock(clock, t, t1);
        piece_step(clock, y, f, theta, y1, error, f1, curve);
        int number = taken.attempts++, within = 0;
        dt = next_step(&control, &memory, dt, isnan(error[0]) ? INFINITY : error[0]);
        if (!(error[0] <= 1)) continue;
        for (; taken.done < count && sign * (times[taken.done] - t1) <= 0; ++taken.done) {
            R *output = ys + taken.done * apart;
            if (times[taken.done] == t1) memcpy(output, y1, sizeof(y1));
            else put_within(curve, (times[taken.done] - t) / (t1 - t), output), within = 1;
        }
        if (taken.accepted < notes.room) {
            double *step = notes.steps + 3 * taken.accepted;
            memcpy(notes.states + taken.accepted * W, y, sizeof(y));
            step[0] = t, step[1] = t1, step[2] = taken.done;
            notes.rounds[number] = 1; /* all threads write the same */
            if (within) notes.rounds[notes.most + number] = 1;
        }
        memcpy(y, y1, sizeof(y)), memcpy(f, f1, sizeof(f));
        t = t1, ++taken.accepted;
    }
    return taken;
}

/* States at the `count` times in `ys`, (count, samples, W). For every sample in `counts`: accepted steps, attempts, and
   whether it has come to its end. If `places` is not null, accepted steps are noted, those of a sample from its place on
   to that of the next; the same machine code takes the same steps once more. */
KERNEL solve_each(const double *times, long long count, long long samples, const R *y0, const R *theta, R *ys, int *counts,
                  const long long *places, R *states, double *steps, int *rounds, long long most) {
    long long sample = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (sample >= samples) return;
    Notes notes = {0, 0, 0, 0, 0};
    if (places) {
        long long place = places[sample], room = places[sample + 1] - place;
        Notes found = {states + place * W, steps + place * 3, rounds, most, room};
        notes = found;
    }
    Taken taken = solve(times, count, y0 + sample * W, theta, ys + sample * W, samples * W, notes);
    counts[3 * sample] = taken.accepted, counts[3 * sample + 1] = taken.attempts;
    counts[3 * sample + 2] = taken.done == count;
}

/* The pieces alone, of one sample, to be compared with what they were made of. */
KERNEL call_begin(const R *t, const R *y, const R *theta, R *f, R *norms) { piece_begin(t, y, theta, f, norms); }

KERNEL call_slope_change(const R *clock, const R *y, const R *f, const R *theta, R *change) {
    piece_slope_change(clock, y, f, theta, change);
}

KERNEL call_step(const R *clock, const R *y, const R *f, const R *theta, R *y1, R *error, R *f1, R *curve) {
    piece_step(clock, y, f, theta, y1, error, f1, curve);
}
