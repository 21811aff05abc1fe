/* An adaptive solve whose every sample has steps of its own, as in solvers/per_sample.py: LANES of them are beside each
   other in the compiled pieces, and one that has come to its end makes room for the next. W is how many numbers a state
   has. What is out of the ordinary is left to Python. */

typedef struct {
    long long sample, done, tries, accepted, previous; /* the step before, by its number */
    double t, t1, dt;
    Memory memory;
} Lane;

typedef struct {
    const double *times;
    long long count, begun, samples; /* of the times, and those of them that are the first */
    double end, sign;
} Span;

static R y[N], f[N], y1[N], f1[N], errors[LANES], curve[5 * N], clock[3 * LANES];

static void set_clock(int lane, double t0, double t1) {
    clock[lane] = t0, clock[LANES + lane] = t1, clock[2 * LANES + lane] = t1 - t0;
}

/* Slopes and sizes of the first steps, LANES samples at a time; 0 where Python has to see to it. */
static int begin_all(const Span *span, double first, double order, const R *y0, const R *theta, R *slopes, double *sizes) {
    static R norms[2 * LANES], change[LANES];
    double h0[LANES], t = span->times[0];
    for (long long s = 0; s < span->samples; s += LANES) {
        for (int i = 0; i < LANES; ++i) {
            memcpy(y + i * W, y0 + (s + i < span->samples ? s + i : s) * W, W * sizeof(R));
            clock[i] = t;
        }
        piece_begin(clock, y, theta, f, norms);
        for (int i = 0; i < LANES; ++i) {
            h0[i] = trial_step(norms[i], norms[LANES + i], span->end - t);
            if (!first && !h0[i]) return 0;
            set_clock(i, t, t + span->sign * h0[i]);
            clock[2 * LANES + i] = span->sign * h0[i];
        }
        if (!first) piece_slope_change(clock, y, f, theta, change);
        for (int i = 0; i < LANES && s + i < span->samples; ++i) {
            double dt = first ? first : chosen_step(h0[i], norms[LANES + i], change[i] / h0[i], order);
            sizes[s + i] = noticeable(dt, t);
            memcpy(slopes + (s + i) * W, f + i * W, W * sizeof(R));
        }
    }
    return 1;
}

static void enter(Lane *lane, int i, long long sample, const Span *span, const Control *control, double dt, const R *y0,
                  const R *slope) {
    *lane = (Lane){sample, span->begun, 0, 0, -1, span->times[0], 0, limited(control, dt), {{1, 1}, 0, 0}};
    memcpy(y + i * W, y0 + sample * W, W * sizeof(R));
    memcpy(f + i * W, slope, W * sizeof(R));
}

/* The next attempt; 0 if it is hopeless. */
static int attempt(Lane *lane, int i, const Span *span, const Control *control) {
    double left = fabs(span->end - lane->t);
    lane->t1 = lane->t + span->sign * lane->dt;
    if (lane->dt > 0.99 * left) lane->dt = left, lane->t1 = span->end;
    set_clock(i, lane->t, lane->t1);
    return lane->t1 != lane->t && !lane->memory.stuck && lane->tries != control->max_attempts;
}

/* Outputs of an accepted step of a lane; returns whether one of them lies within it. */
static int put_outputs(Lane *lane, int i, const Span *span, R *ys) {
    int dense = 0;
    for (; lane->done < span->count && span->sign * (span->times[lane->done] - lane->t1) <= 0; ++lane->done) {
        double t = span->times[lane->done];
        R *output = ys + (lane->done * span->samples + lane->sample) * W;
        int within = t != lane->t1;
        memcpy(output, (within ? curve : y1) + i * W, W * sizeof(R));
        for (int p = 1; p < 5 && within; ++p) {
            R power = pow((t - lane->t) / (lane->t1 - lane->t), p);
            for (int j = 0; j < W; ++j) output[j] += power * curve[p * N + i * W + j];
        }
        dense |= within;
    }
    return dense;
}

/* States at the `count` times in `ys`; in `states` where accepted steps begin, and in `steps` for each of them t0, t1,
   how many outputs its sample has after it, and which step came before it, or -1. For every sample in `counts`: its
   accepted steps, its attempts, and its last step. In `rounds`, by the number of an attempt, whether one of a sample was
   accepted (1), and had outputs within it (2). Returns the number of steps; -1 where Python has to see to it, and -2
   where there is no room. */
long long solve_each(const double *times, long long count, long long samples, double first, const Control *control,
                     const R *y0, const R *theta, long long room, R *states, double *steps, R *ys, R *slopes,
                     double *sizes, long long *counts, unsigned char *rounds) {
    Lane lanes[LANES];
    Span span = {times, count, 1, samples, times[count - 1], times[count - 1] > times[0] ? 1 : -1};
    long long used = 0, next = 0;
    for (; span.begun < count && times[span.begun] == times[0]; ++span.begun);
    for (long long j = 0; j < span.begun; ++j) memcpy(ys + j * samples * W, y0, samples * W * sizeof(R));
    if (!begin_all(&span, first, control->order, y0, theta, slopes, sizes)) return -1;
    for (int i = 0; i < LANES; ++i) lanes[i].sample = -1;
    for (;;) {
        int active = 0;
        for (int i = 0; i < LANES; ++i) {
            if (lanes[i].sample < 0 && next < samples)
                enter(lanes + i, i, next, &span, control, sizes[next], y0, slopes + next * W), ++next;
            if (lanes[i].sample >= 0 && !attempt(lanes + i, i, &span, control)) return -1;
            active |= lanes[i].sample >= 0;
        }
        if (!active) return used;
        piece_step(clock, y, f, theta, y1, errors, f1, curve);
        for (int i = 0; i < LANES; ++i) {
            Lane *lane = lanes + i;
            if (lane->sample < 0) continue;
            if (used == room || lane->tries == room) return -2;
            unsigned char *round = rounds + lane->tries++;
            lane->dt = next_step(control, &lane->memory, lane->dt, isnan(errors[i]) ? INFINITY : errors[i]);
            if (!(errors[i] <= 1)) continue;
            *round |= 1 | 2 * put_outputs(lane, i, &span, ys);
            double row[4] = {lane->t, lane->t1, lane->done, lane->previous};
            memcpy(steps + 4 * used, row, sizeof(row));
            memcpy(states + used * W, y + i * W, W * sizeof(R));
            memcpy(y + i * W, y1 + i * W, W * sizeof(R));
            memcpy(f + i * W, f1 + i * W, W * sizeof(R));
            lane->previous = used++, lane->t = lane->t1, ++lane->accepted;
            if (lane->done < count) continue;
            long long found[3] = {lane->accepted, lane->tries, lane->previous};
            memcpy(counts + 3 * lane->sample, found, sizeof(found));
            lane->sample = -1;
        }
    }
}
