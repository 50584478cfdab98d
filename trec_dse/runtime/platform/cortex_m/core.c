/* Cycle counter, reset and caches: the system control space of ARMv7-M (ARM DDI 0403: B3.2, C1.8). */
#include "trec_core.h"

#include "trec_port.h"

#define SCB_AIRCR TREC_REGISTER(0xE000ED0Cu)
#define SCB_AIRCR_SYSRESETREQ 0x05FA0004u /* with the key that makes the write count */
#define SCB_CCR TREC_REGISTER(0xE000ED14u)
#define SCB_CCR_DC (1u << 16)
#define SCB_CCR_IC (1u << 17)
#define SCB_CCSIDR TREC_REGISTER(0xE000ED80u)
#define SCB_CSSELR TREC_REGISTER(0xE000ED84u)
#define SCB_ICIALLU TREC_REGISTER(0xE000EF50u)
#define SCB_DCISW TREC_REGISTER(0xE000EF60u)
#define DEMCR TREC_REGISTER(0xE000EDFCu)
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL TREC_REGISTER(0xE0001000u)
#define DWT_CTRL_CYCCNTENA (1u << 0)
#define DWT_CYCCNT TREC_REGISTER(0xE0001004u)
#define DWT_LAR TREC_REGISTER(0xE0001FB0u)
#define DWT_LAR_KEY 0xC5ACCE55u

#define LINE_SHIFT 5u /* 32-byte lines, 4 ways: the only data cache that a Cortex-M7 can have */
#define WAY_SHIFT 30u

static void barrier(void)
{
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

#if __ARM_ARCH > 6 /* ARMv6-M has no such unit: there the platform counts with a timer of the chip */
void trec_core_start_cycle_counter(void)
{
    DEMCR |= DEMCR_TRCENA;
    DWT_LAR = DWT_LAR_KEY; /* the M7 ignores writes to DWT until it is unlocked */
    DWT_CYCCNT = 0;
    DWT_CTRL |= DWT_CTRL_CYCCNTENA;
}

uint32_t trec_port_cycles(void)
{
    return DWT_CYCCNT;
}
#endif

void trec_core_enable_caches(void)
{
    barrier();
    SCB_ICIALLU = 0;
    barrier();
    SCB_CCR |= SCB_CCR_IC;
    SCB_CSSELR = 0; /* level 1, data */
    barrier();
    const uint32_t size = SCB_CCSIDR;
    const uint32_t last_set = (size >> 13) & 0x7FFFu;
    const uint32_t last_way = (size >> 3) & 0x3FFu;
    for (uint32_t set = 0; set <= last_set; set++) {
        for (uint32_t way = 0; way <= last_way; way++) {
            SCB_DCISW = set << LINE_SHIFT | way << WAY_SHIFT; /* after reset the tags hold anything */
        }
    }
    barrier();
    SCB_CCR |= SCB_CCR_DC;
    barrier();
}

/* Resets the whole chip; a platform where it would reset the core alone has its own. */
void trec_port_reset(void) __attribute__((weak));

void trec_port_reset(void)
{
    barrier();
    SCB_AIRCR = SCB_AIRCR_SYSRESETREQ;
    barrier();
    for (;;) {
    }
}
