/* Vector forms of math.c's functions, operation by operation the same. Included once per
 * instruction set with V(x), VT and TGT as in kernels_simd_int.h; no guard for that reason. */
ENG_INL TGT VT V(exp)(VT x)
{
    VT t, n, r, p, s1, s2;

    x = V(max)(V(set1)(ENG_EXP_LO), x);
    x = V(min)(V(set1)(ENG_EXP_HI), x);
    t = V(fma)(x, V(set1)(ENG_LOG2E), V(set1)(ENG_MAGIC));
    n = V(sub)(t, V(set1)(ENG_MAGIC));
    r = V(fma)(n, V(set1)(-ENG_LN2_HI), x);
    r = V(fma)(n, V(set1)(-ENG_LN2_LO), r);
    p = V(fma)(V(set1)(ENG_EXP_P0), r, V(set1)(ENG_EXP_P1));
    p = V(fma)(p, r, V(set1)(ENG_EXP_P2));
    p = V(fma)(p, r, V(set1)(ENG_EXP_P3));
    p = V(fma)(p, r, V(set1)(ENG_EXP_P4));
    p = V(fma)(p, r, V(set1)(ENG_EXP_P5));
    p = V(add)(V(fma)(p, V(mul)(r, r), r), V(set1)(1.0f));
    V(pow2_halves)(t, ENG_MAGIC_BITS, &s1, &s2);
    return V(mul)(V(mul)(p, s1), s2);
}

ENG_INL TGT VT V(tanh)(VT x)
{
    VT one = V(set1)(1.0f);

    return V(sub)(one, V(div)(V(set1)(2.0f), V(add)(one, V(exp)(V(add)(x, x)))));
}
