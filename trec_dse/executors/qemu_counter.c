/* A plugin of QEMU: a line on standard output for every call of one function, with the instructions that it took, those
 * of what it calls included. It also ends QEMU with its standard input, so that none outlives whoever started it.
 *
 * Straight code is translated once and then entered as a whole, so its length is added when it is entered; that is
 * exact as long as no exception leaves it halfway. What is declared here of QEMU's interface follows its documentation
 * (docs/devel/tcg-plugins.rst); nothing has to be installed to compile this.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_REGISTERS = 0 }; /* what a callback reads of the guest */
typedef uint64_t plugin_id;
typedef struct qemu_plugin_tb translated;
typedef struct qemu_plugin_insn instruction;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*on_translation)(plugin_id, translated *));
void qemu_plugin_register_vcpu_tb_exec_cb(translated *code, void (*on_entry)(unsigned, void *), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const translated *code);
uint64_t qemu_plugin_tb_vaddr(const translated *code);
instruction *qemu_plugin_tb_get_insn(const translated *code, size_t index);
uint64_t qemu_plugin_insn_vaddr(const instruction *which);
size_t qemu_plugin_insn_size(const instruction *which);

extern int qemu_plugin_version;
int qemu_plugin_version = PLUGIN_API;

/* Straight code: where it starts, what follows it, and how long it is. QEMU may translate it again; it is never freed. */
typedef struct {
    uint64_t first;
    uint64_t behind;
    uint64_t n_instructions;
} block;

static uint64_t function;       /* whose calls are counted */
static uint64_t returns_to;     /* where the call under way will end; 0: none is */
static uint64_t n_instructions; /* of the call under way */
static const block *previous;

static void on_entry(unsigned cpu, void *data)
{
    (void)cpu;
    const block *const now = data;
    if (!returns_to && now->first == function && previous) {
        returns_to = previous->behind;
        n_instructions = 0;
    } else if (now->first == returns_to) {
        returns_to = 0;
        printf("%llu\n", (unsigned long long)n_instructions);
        fflush(stdout);
    }
    n_instructions += now->n_instructions;
    previous = now;
}

static void on_translation(plugin_id id, translated *code)
{
    (void)id;
    block *const b = malloc(sizeof *b);
    if (!b) {
        abort();
    }
    b->n_instructions = qemu_plugin_tb_n_insns(code);
    b->first = qemu_plugin_tb_vaddr(code);
    const instruction *const last = qemu_plugin_tb_get_insn(code, b->n_instructions - 1U);
    b->behind = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
    qemu_plugin_register_vcpu_tb_exec_cb(code, on_entry, NO_REGISTERS, b);
}

static void *end_with_standard_input(void *unused)
{
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    _exit(0);
    return unused;
}

/* `-plugin FILE,function=ADDRESS` */
int qemu_plugin_install(plugin_id id, const void *about, int n_arguments, char **arguments);
int qemu_plugin_install(plugin_id id, const void *about, int n_arguments, char **arguments)
{
    static const char name[] = "function=";
    pthread_t watcher;
    (void)about;
    if (n_arguments != 1 || strncmp(arguments[0], name, sizeof name - 1U) != 0) {
        return 1;
    }
    function = strtoull(arguments[0] + sizeof name - 1U, NULL, 0);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return pthread_create(&watcher, NULL, end_with_standard_input, NULL);
}
