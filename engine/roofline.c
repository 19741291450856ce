/* The machine's limits, measured: how fast memory can be read, how many operations a second the
 * arithmetic units do. Runs on a pool of its own, on the caller's thread; the best instruction set
 * of the CPU is used whatever the engine runs with, since the limit is the machine's. */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/kernels.h"
#include "engine/simd_int.h"

#define READ_BYTES  ((size_t)512 << 20) /* far more than any cache holds */
#define READ_PARTS  16                  /* pool items, so that a slow thread reads less */
#define N_CHAINS    12
#define SPIN_ROUNDS 400000
#define REPEATS     3 /* the best one counts: noise only slows down */

/* Returns something that depends on all bytes, so that none is left out. */
typedef uint64_t (*read_fn)(const void *p, size_t bytes);
/* `rounds` times N_CHAINS vector operations */
typedef void (*spin_fn)(size_t rounds);

struct probes {
    read_fn read;
    spin_fn f32, i8;
    double f32_ops, i8_ops; /* in one round */
};

/* ---- any CPU --------------------------------------------------------------------------------- */

static uint64_t read_scalar(const void *p, size_t bytes)
{
    const uint64_t *v = p;
    uint64_t sum[8] = {0};

    for (size_t i = 0; i < bytes / sizeof(*v); i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] ^= v[i + j];
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

/* The empty asm: everything may have changed, so nothing is computed once and for all. */
#define KEEP(x) __asm__ volatile("" : "+m"(x))

static void f32_scalar(size_t rounds)
{
    float acc[N_CHAINS] = {0}, a = 0;

    KEEP(a);
    for (size_t i = 0; i < rounds; i++)
        for (int c = 0; c < N_CHAINS; c++)
            acc[c] = acc[c] * a + a;
    KEEP(acc);
}

static void i8_scalar(size_t rounds)
{
    int32_t acc[N_CHAINS] = {0};
    int8_t a = 3;

    KEEP(a);
    for (size_t i = 0; i < rounds; i++)
        for (int c = 0; c < N_CHAINS; c++)
            acc[c] += a * (int8_t)(i + (size_t)c);
    KEEP(acc);
}

static const struct probes probes_scalar = {
    .read = read_scalar,
    .f32 = f32_scalar,
    .i8 = i8_scalar,
    .f32_ops = 2.0 * N_CHAINS,
    .i8_ops = 2.0 * N_CHAINS,
};

#ifdef ENG_X86

/* ---- AVX2 and AVX-512 ------------------------------------------------------------------------ */

/* Four streams at once, as a thread that reads several weight tiles has. */
ENG_TGT_AVX2 static uint64_t read_avx2(const void *p, size_t bytes)
{
    const __m256i *v = p;
    size_t n = bytes / sizeof(*v) / 4;
    __m256i sum[4] = {{0}};

    for (size_t i = 0; i < n; i += 2) /* a cache line of each */
        for (size_t j = 0; j < 4; j++) {
            sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(v + j * n + i));
            sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(v + j * n + i + 1));
        }
    sum[0] = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return (uint64_t)_mm256_extract_epi64(sum[0], 0);
}

ENG_TGT_AVX512 static uint64_t read_avx512(const void *p, size_t bytes)
{
    const __m512i *v = p;
    size_t n = bytes / sizeof(*v) / 4;
    __m512i sum[4] = {{0}};

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < 4; j++)
            sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(v + j * n + i));
    sum[0] = _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]));
    return (uint64_t)_mm512_reduce_add_epi64(sum[0]);
}

/* Arithmetic on zeros in twelve independent chains, which cover the latency of any core: `body` for
 * each of the registers 0 to 11; 12 and 15 are its own. In assembly, so that it is these
 * instructions and no other. */
#define SPIN(name, target, body)                                                                   \
    target static void name(size_t rounds)                                                         \
    {                                                                                              \
        __asm__ volatile(".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,15\n\t"                              \
                         "vxorps %%xmm\\r,%%xmm\\r,%%xmm\\r\n\t"                                   \
                         ".endr\n"                                                                 \
                         "1:\n\t"                                                                  \
                         ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t" body ".endr\n\t"                   \
                         "dec %0\n\t"                                                              \
                         "jnz 1b\n\t"                                                              \
                         "vzeroupper"                                                              \
                         : "+r"(rounds)                                                            \
                         :                                                                         \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",   \
                           "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm15");                    \
    }

SPIN(f32_avx2, ENG_TGT_AVX2, "vfmadd231ps %%ymm15,%%ymm15,%%ymm\\r\n\t")
SPIN(f32_avx512, ENG_TGT_AVX512, "vfmadd231ps %%zmm15,%%zmm15,%%zmm\\r\n\t")
/* Without VNNI a dot product of bytes takes three instructions. */
SPIN(i8_avx2, ENG_TGT_AVX2,
     "vpmaddubsw %%ymm15,%%ymm15,%%ymm12\n\t"
     "vpmaddwd %%ymm15,%%ymm12,%%ymm12\n\t"
     "vpaddd %%ymm12,%%ymm\\r,%%ymm\\r\n\t")
SPIN(i8_avx512, ENG_TGT_AVX512, "vpdpbusd %%zmm15,%%zmm15,%%zmm\\r\n\t")

static const struct probes probes_avx2 = {
    .read = read_avx2,
    .f32 = f32_avx2,
    .i8 = i8_avx2,
    .f32_ops = 2.0 * 8 * N_CHAINS,
    .i8_ops = 2.0 * 32 * N_CHAINS,
};
static const struct probes probes_avx512 = {
    .read = read_avx512,
    .f32 = f32_avx512,
    .i8 = i8_avx512,
    .f32_ops = 2.0 * 16 * N_CHAINS,
    .i8_ops = 2.0 * 64 * N_CHAINS,
};

#endif

static const struct probes *choose(void)
{
#ifdef ENG_X86
    if (eng_isa_supported(ENG_ISA_AVX512))
        return &probes_avx512;
    if (eng_isa_supported(ENG_ISA_AVX2))
        return &probes_avx2;
#endif
    return &probes_scalar;
}

/* ---- measuring ------------------------------------------------------------------------------- */

struct job {
    const struct probes *probes;
    const char *memory; /* NULL: spin */
    spin_fn spin;
    atomic_uint_fast64_t sink;
};

static void parts(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct job *j = arg;
    const size_t bytes = READ_BYTES / READ_PARTS;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        if (j->memory)
            atomic_fetch_xor(&j->sink, j->probes->read(j->memory + i * bytes, bytes));
        else
            j->spin(SPIN_ROUNDS);
    }
}

/* The best time of n_items, in seconds. */
static double best_s(struct eng_pool *pool, struct job *j, size_t n_items)
{
    int64_t best_ns = INT64_MAX;

    for (int i = 0; i < REPEATS; i++) {
        int64_t t0 = pd_clock_now_ns(), t;

        eng_pool_run(pool, n_items, 1, parts, j);
        t = pd_clock_now_ns() - t0;
        best_ns = t < best_ns ? t : best_ns;
    }
    return (double)(best_ns > 0 ? best_ns : 1) / 1e9;
}

int eng_roofline_measure(unsigned n_threads, struct eng_roofline *out, struct pd_err *err)
{
    struct eng_pool *pool = NULL;
    struct job j = {.probes = choose()};
    double items = (double)READ_PARTS;
    char *memory;
    int rc = eng_pool_new(n_threads, &pool, err);

    if (rc < 0)
        return rc;
    memory = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        eng_pool_free(pool);
        return pd_fail(err, PD_ENOMEM, "no memory to measure the machine: %zu MiB are needed",
                       READ_BYTES >> 20);
    }
    (void)madvise(memory, READ_BYTES, MADV_HUGEPAGE); /* only faster */
    memset(memory, 1, READ_BYTES);
    j.memory = memory;
    out->read_bytes_s = (double)READ_BYTES / best_s(pool, &j, READ_PARTS);
    munmap(memory, READ_BYTES);
    j.memory = NULL;
    j.spin = j.probes->f32;
    out->f32_ops_s = items * SPIN_ROUNDS * j.probes->f32_ops / best_s(pool, &j, READ_PARTS);
    j.spin = j.probes->i8;
    out->i8_ops_s = items * SPIN_ROUNDS * j.probes->i8_ops / best_s(pool, &j, READ_PARTS);
    eng_pool_free(pool);
    return 0;
}
