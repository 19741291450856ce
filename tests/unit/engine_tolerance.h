/* How far the engine may be from other implementations, each with the observed error. Between the
 * engine's own paths there is no tolerance at all. */
#ifndef PD_TESTS_ENGINE_TOLERANCE_H
#define PD_TESTS_ENGINE_TOLERANCE_H

/* ---- test_engine_reference: logits of the bundled models against their training code
 *
 * Q8_0 weights are multiplied with activations rounded to 8 bits, the reference's are exact. That
 * this is the whole difference is tested too: the same weights with exact activations are as close
 * as F16. Observed: F16 0.022, Q8_0 weights with exact activations 0.018. */
#define TOLERANCE_F16 0.05
/* Observed: base 0.27; draft 0.61, where 12 of about 5000 logits are off by more than 0.4 (it is
 * only 96 wide). */
#define TOLERANCE_Q8_0      0.4
#define TOLERANCE_Q8_0_RARE 0.8
#define RARE                0.005 /* share of logits that may lie between the two */
/* Observed: F16 0.00022, Q8_0 0.0081. */
#define TOLERANCE_REWARD 0.01

/* ---- test_engine_models: logits of random models against tests/reference/forward.py
 *
 * F32, F16 and BF16 weights meet exact activations; what is left is the binary16 cache. Observed:
 * 0.0098. */
#define TOLERANCE_EXACT 0.02
/* All others meet activations rounded to 8 bits, which random weights feel more than trained ones.
 * Observed: 0.48. */
#define TOLERANCE_INT8 0.6
/* Where a router is near a tie, rounding sends a token to another expert and its logits elsewhere.
 * Observed share of logits beyond the tolerance: 0.055. */
#define RARE_EXPERTS 0.15
/* Relative, of the perplexity of 1024 random tokens. Errors of single tokens, 0.07 in standard
 * deviation with rounded activations, cancel to a thirtieth of that. Observed: 0.004 % and 0.52 %.
 */
#define TOLERANCE_PERPLEXITY_EXACT 0.0002
#define TOLERANCE_PERPLEXITY_INT8  0.01

/* Of what a scorer makes of a model in F32, as ln(r / (1 - r)): K and V are kept in F16. Observed:
 * 0.003. */
#define TOLERANCE_READOUT 0.03

#endif
