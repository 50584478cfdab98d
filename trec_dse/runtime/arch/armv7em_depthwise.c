/* Depthwise windows on cores with the DSP extension; other cores have portable.h's. */
#if defined(__ARM_FEATURE_DSP) && !defined(TREC_PORTABLE)

/* trec_depthwise_fours: three taps of four channels a turn, of which the first turn leaves out as many as a row has too
 * few. SXTAB16 widens two of the channels and takes the zero point off, SMLABB and SMLATT multiply the halves.
 *
 * r0 x, r1 w, r2 channels, r3 less the zero point, twice, r4-r7 sums, r8-r11 values and weights, r12 turns left, lr rows
 * left. The stack holds
 *     0 turns of a row   4 rows   8 x rest   12 w rest   16 bias   20 factors   24 zero   28 fours left
 *     32 x               36 w     40 output  44 where a row is entered
 */
#define TAP                                                                                                            \
    "ldr.w r8, [r0]\n"                                                                                                 \
    "ldr.w r9, [r1]\n"                                                                                                 \
    "add.w r0, r0, r2\n"                                                                                               \
    "add.w r1, r1, r2\n"                                                                                               \
    "sxtab16 r10, r3, r8\n"                                                                                            \
    "sxtb16 r11, r9\n"                                                                                                 \
    "sxtab16 r8, r3, r8, ror #8\n"                                                                                     \
    "sxtb16 r9, r9, ror #8\n"                                                                                          \
    "smlabb r4, r10, r11, r4\n"                                                                                        \
    "smlatt r6, r10, r11, r6\n"                                                                                        \
    "smlabb r5, r8, r9, r5\n"                                                                                          \
    "smlatt r7, r8, r9, r7\n"

__asm__(".syntax unified\n"
        ".section .text.trec_depthwise_fours, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_depthwise_fours\n"
        ".type trec_depthwise_fours, %function\n"
        ".thumb_func\n"
        "trec_depthwise_fours:\n"
        "push {r4-r11, lr}\n"
        "sub sp, sp, #48\n"
        "ldm r0!, {r4-r11}\n"
        "stm sp, {r4-r11}\n"
        "strd r1, r2, [sp, #32]\n"
        "str r3, [sp, #40]\n"
        "ldrd r2, r3, [r0]\n"
        "rsb r3, r3, #0\n"
        "pkhbt r3, r3, r3, lsl #16\n"
        "add r5, r4, #2\n"
        "mov r6, #3\n"
        "udiv r5, r5, r6\n"
        "mul r6, r5, r6\n" /* taps to be left out of the first turn; each is 48 bytes of code */
        "sub r6, r6, r4\n"
        "add r6, r6, r6, lsl #1\n"
        "adr r8, 3f\n"
        "add r8, r8, r6, lsl #4\n"
        "orr r8, r8, #1\n"
        "str r5, [sp]\n"
        "str r8, [sp, #44]\n"
        "cmp r11, #0\n"
        "ble 4f\n"
        "1:\n"
        "ldr r8, [sp, #16]\n"
        "ldrd r0, r1, [sp, #32]\n"
        "ldr lr, [sp, #4]\n"
        "ldm r8!, {r4-r7}\n"
        "str r8, [sp, #16]\n"
        "2:\n"
        "ldr r12, [sp]\n"
        "ldr r8, [sp, #44]\n"
        "bx r8\n"
        ".balign 4\n"
        "3:\n" TAP TAP TAP
        "subs r12, r12, #1\n"
        "bne 3b\n"
        "ldrd r8, r9, [sp, #8]\n"
        "add r0, r0, r8\n"
        "add r1, r1, r9\n"
        "subs lr, lr, #1\n"
        "bne 2b\n"
        "ldrd r12, lr, [sp, #20]\n"
        "ldr r0, [sp, #40]\n"
        "ldm r12!, {r8-r11}\n"
        "str r12, [sp, #20]\n"
        "smmlar r4, r4, r8, lr\n"
        "smmlar r5, r5, r9, lr\n"
        "smmlar r6, r6, r10, lr\n"
        "smmlar r7, r7, r11, lr\n"
        "ssat r4, #8, r4\n"
        "ssat r5, #8, r5\n"
        "ssat r6, #8, r6\n"
        "ssat r7, #8, r7\n"
        "bfi r4, r5, #8, #8\n"
        "bfi r4, r6, #16, #8\n"
        "bfi r4, r7, #24, #8\n"
        "str r4, [r0], #4\n"
        "str r0, [sp, #40]\n"
        "ldrd r0, r1, [sp, #32]\n"
        "ldr r8, [sp, #28]\n"
        "adds r0, r0, #4\n"
        "adds r1, r1, #4\n"
        "strd r0, r1, [sp, #32]\n"
        "subs r8, r8, #1\n"
        "str r8, [sp, #28]\n"
        "bne 1b\n"
        "4:\n"
        "add sp, sp, #48\n"
        "pop {r4-r11, pc}\n"
        ".size trec_depthwise_fours, . - trec_depthwise_fours\n"
        ".text\n");

#endif
