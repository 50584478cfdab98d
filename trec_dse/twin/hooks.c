/* Counts modelled cycles while the emulator runs: called once per basic block and once per data access.
 *
 * hooks.py holds the same rules in Python and describes the same structs to ctypes; a test compares the two.
 */
#include <stddef.h>
#include <stdint.h>

enum { EXIT_DIRECT = 0, EXIT_CONDITIONAL = 1, EXIT_INDIRECT = 2, EXIT_RETURN = 3 };
enum { MAX_DATA_RANGES = 4, STRONGLY_TAKEN = 3, WEAKLY_TAKEN = 2 };

typedef struct {
    uint64_t aligned; /* bit k: the k-th memory access must be aligned to a word */
    uint32_t end; /* address behind the block; 0: never entered */
    uint32_t cycles;
    uint32_t n_instructions;
    uint32_t last_target;
    uint8_t exit;
    uint8_t starts_misaligned;
    uint8_t predictor; /* 0 and 1 predict straight on, 2 and 3 predict taken */
    uint8_t unused;
    uint32_t function; /* its number in a profile */
} block;

typedef struct {
    uint32_t *tags; /* (n_sets, n_ways), most recently used first; line number + 1, 0: empty */
    uint32_t n_sets;
    uint32_t n_ways;
    uint32_t line_shift;
    uint32_t miss;
    uint32_t reads_ahead; /* the line behind the latest one is on its way, and costs nothing */
    uint32_t latest;      /* tag of the latest access */
} cache;

typedef struct {
    uint64_t cycles;
    uint64_t n_instructions;
    uint64_t code_stalls; /* cycles lost for want of a line of code, and of data */
    uint64_t data_stalls;
} tally;

/* Where the time goes: a tally for each pair of a step of a run and a function. A run is one call of a function, its
 * steps are the calls that it makes itself, from 1 on; step 0 is all that happens outside of it. */
typedef struct {
    tally *tallies; /* (n_steps, n_functions); NULL: nobody asks */
    tally *now;
    uint32_t n_steps;
    uint32_t n_functions;
    uint32_t run_first;
    uint32_t run_bytes;
    uint32_t run_return; /* address at which the run ends */
    uint32_t step;
    uint32_t is_inside; /* whether the block under way is the run's own */
} profile;

typedef struct {
    uint64_t cycles;
    uint64_t n_instructions;
    uint64_t n_code_misses;
    uint64_t n_data_misses;
    uint64_t n_unaligned;
    block *blocks; /* (code_size / 2): one per address at which a block may begin */
    block *previous;
    void (*learn)(uint32_t address, uint32_t size); /* fills the entry of a block seen for the first time */
    void (*refuse)(uint32_t address);               /* told of an access on which the core would fault */
    uint32_t code_origin;
    uint32_t code_size;
    uint32_t taken;
    uint32_t indirect;
    uint32_t misaligned;
    uint32_t mispredicted;
    uint32_t unaligned;
    uint32_t never_unaligned; /* the core faults on every access across its natural boundary */
    uint32_t is_unified;      /* data are looked up in the cache of the code */
    uint32_t n_accesses; /* since the block began */
    uint32_t n_data_ranges;
    uint32_t data_first[MAX_DATA_RANGES];
    uint32_t data_behind[MAX_DATA_RANGES];
    cache code;
    cache data;
    profile profile;
} state;

/* Cycles lost because the line with this address was not in the cache; afterwards it is. */
static uint32_t look_up(cache *c, uint32_t address)
{
    const uint32_t line = address >> c->line_shift;
    const uint32_t tag = line + 1U;
    if (tag == c->latest) {
        return 0;
    }
    const int is_next = c->reads_ahead && tag == c->latest + 1U;
    c->latest = tag;
    uint32_t *const set = c->tags + (size_t)(line & (c->n_sets - 1U)) * c->n_ways;
    uint32_t way = 0;
    while (way < c->n_ways - 1U && set[way] != tag) {
        way++;
    }
    const uint32_t lost = set[way] == tag || is_next ? 0 : c->miss;
    for (; way > 0; way--) {
        set[way] = set[way - 1];
    }
    set[0] = tag;
    return lost;
}

/* Cycles between the end of `from` and the start of `to`, which lies at `address`. */
static uint32_t edge(const state *s, block *from, const block *to, uint32_t address)
{
    const int taken = from->end != address;
    uint32_t cycles = 0;
    if (s->mispredicted) {
        int wrong = 0;
        if (from->exit == EXIT_CONDITIONAL) {
            wrong = taken != (from->predictor >= WEAKLY_TAKEN);
            if (taken && from->predictor < STRONGLY_TAKEN) {
                from->predictor++;
            } else if (!taken && from->predictor > 0) {
                from->predictor--;
            }
        } else if (from->exit == EXIT_INDIRECT) {
            wrong = from->last_target != address;
            from->last_target = address;
        }
        cycles += wrong ? s->mispredicted : 0;
    }
    if (taken) {
        cycles += s->taken + (from->exit >= EXIT_INDIRECT ? s->indirect : 0);
        cycles += to->starts_misaligned ? s->misaligned : 0;
    }
    return cycles;
}

/* Which step of the run a block belongs to. */
static void take_step(profile *p, const block *previous, uint32_t address)
{
    const uint32_t is_inside = address - p->run_first < p->run_bytes;
    if (is_inside && address == p->run_first) {
        p->step = 1;
        p->run_return = previous ? previous->end : 0;
    } else if (is_inside && !p->is_inside && p->step + 1U < p->n_steps) {
        p->step++; /* back from a call: what follows prepares the next one */
    } else if (address == p->run_return) {
        p->step = 0;
    }
    p->is_inside = is_inside;
}

static void add_to_profile(profile *p, const block *now, uint64_t cycles, uint64_t stalls)
{
    p->now = p->tallies + (size_t)p->step * p->n_functions + now->function;
    p->now->cycles += cycles;
    p->now->n_instructions += now->n_instructions;
    p->now->code_stalls += stalls;
}

void twin_on_block(void *engine, uint64_t address64, uint32_t size, state *s);
void twin_on_block(void *engine, uint64_t address64, uint32_t size, state *s)
{
    (void)engine;
    const uint32_t address = (uint32_t)address64;
    if (address - s->code_origin >= s->code_size) {
        s->previous = NULL; /* only code from Flash is timed */
        s->profile.now = NULL;
        return;
    }
    block *const now = s->blocks + (address - s->code_origin) / 2U;
    if (now->end != address + size) {
        s->learn(address, size);
    }
    uint64_t cycles = now->cycles, stalls = 0;
    if (s->previous) {
        cycles += edge(s, s->previous, now, address);
    }
    const uint32_t step = 1U << s->code.line_shift;
    for (uint32_t line = address & ~(step - 1U); line < now->end; line += step) {
        const uint32_t lost = look_up(&s->code, line);
        s->n_code_misses += lost != 0;
        stalls += lost;
    }
    cycles += stalls;
    if (s->profile.tallies) {
        take_step(&s->profile, s->previous, address);
        add_to_profile(&s->profile, now, cycles, stalls);
    }
    s->cycles += cycles;
    s->n_instructions += now->n_instructions;
    s->previous = now;
    s->n_accesses = 0;
}

void twin_on_access(void *engine, int kind, uint64_t address64, int size, int64_t value, state *s);
void twin_on_access(void *engine, int kind, uint64_t address64, int size, int64_t value, state *s)
{
    (void)engine;
    (void)value;
    enum { UC_MEM_WRITE = 17 };
    const uint32_t address = (uint32_t)address64;
    const uint32_t index = s->n_accesses++;
    if (address & (size < 4 ? (uint32_t)size - 1U : 3U)) {
        if (s->never_unaligned || (s->previous && index < 64 && (s->previous->aligned >> index & 1U))) {
            s->refuse(address);
        }
        s->cycles += s->unaligned;
        s->n_unaligned++;
        if (s->profile.now) {
            s->profile.now->cycles += s->unaligned;
        }
    }
    for (uint32_t i = 0; i < s->n_data_ranges; i++) {
        if (address >= s->data_first[i] && address < s->data_behind[i]) {
            const uint32_t lost = look_up(s->is_unified ? &s->code : &s->data, address);
            /* A store that misses waits in the store buffer, not in the pipeline. */
            if (lost && kind != UC_MEM_WRITE) {
                s->n_data_misses++;
                s->cycles += lost;
                if (s->profile.now) {
                    s->profile.now->cycles += lost;
                    s->profile.now->data_stalls += lost;
                }
            }
            return;
        }
    }
}
