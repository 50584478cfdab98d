/* From reset to main(): vector table, stack, initial values. */
#include "board.h"
#include "trec_core.h"
#include "trec_port.h"

#define SCB_VTOR TREC_REGISTER(0xE000ED08u)
#define SCB_CPACR TREC_REGISTER(0xE000ED88u)
#define SCB_CPACR_FPU (15u << 20) /* full access to coprocessors 10 and 11 */
#define STACK_WORDS (TREC_STACK_BYTES / 4u)
#define PAINT 0xA5A5A5A5u /* what a stack word holds until it is used */

typedef void (*handler)(void);

/* Where link.ld puts the initialized and the zeroed variables. */
extern const uint32_t trec_data_load[];
#if TREC_PLACES_TABLES
extern const uint32_t trec_placed_load[];
extern uint32_t trec_placed_start[], trec_placed_end[];
#endif
extern uint32_t trec_data_start[], trec_data_end[], trec_bss_start[], trec_bss_end[];

int main(void);
void Reset_Handler(void);
void trec_fault(void);

uint32_t trec_stack[STACK_WORDS] __attribute__((section(".bss.trec_stack"), aligned(8)));

/* A fault ends here and the host gets no answer; the name is what a debugger or an emulator shows. */
void trec_fault(void)
{
    for (;;) {
    }
}

/* No interrupt is ever enabled, so the table ends after the core's own exceptions. */
static const struct {
    uint32_t *stack;
    handler entries[15];
} vectors __attribute__((section(".vectors"), used)) = {
    trec_stack + STACK_WORDS,
    {Reset_Handler, trec_fault, trec_fault, trec_fault, trec_fault, trec_fault, trec_fault, trec_fault, trec_fault,
     trec_fault, trec_fault, trec_fault, trec_fault, trec_fault, trec_fault},
};

static void paint_stack(void)
{
    uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    /* volatile, or the compiler may call a memset that pushes into what is being painted */
    for (volatile uint32_t *word = trec_stack; word < top; word++) {
        *word = PAINT;
    }
}

uint32_t trec_port_stack_bytes(void)
{
    uint32_t n_unused = 0;
    while (n_unused < STACK_WORDS && ((volatile uint32_t *)trec_stack)[n_unused] == PAINT) {
        n_unused++;
    }
    return TREC_STACK_BYTES - 4u * n_unused;
}

void Reset_Handler(void)
{
#if TREC_HAS_BOOTLOADER
    __asm__ volatile("cpsid i" ::: "memory"); /* it may have left interrupts on, for which the table has no entries */
#endif
    paint_stack();
    SCB_VTOR = (uint32_t)(uintptr_t)&vectors; /* a boot loader may have left its own */
#if defined(__ARM_FP)
    SCB_CPACR |= SCB_CPACR_FPU;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    const uint32_t *from = trec_data_load;
    for (uint32_t *to = trec_data_start; to < trec_data_end; to++) {
        *to = *from++;
    }
#if TREC_PLACES_TABLES
    from = trec_placed_load;
    for (uint32_t *to = trec_placed_start; to < trec_placed_end; to++) {
        *to = *from++;
    }
#endif
    for (uint32_t *to = trec_bss_start; to < trec_bss_end; to++) {
        *to = 0;
    }
    (void)main();
    trec_fault();
}
