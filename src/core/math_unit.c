/* Units of quantities: names, what they measure, and how many of the basic unit they are. */
#include "core/math_int.h"

enum { LENGTH, MASS, TIME, HEAT, MONEY, MONTHS };

struct row {
    const char *names;  /* words with a blank between and at both ends; "-s": with an s too */
    const char *factor; /* of the basic unit */
    signed char dim[MATH_DIMS];
};

/* clang-format off */
static const struct row rows[] = {
    {" m meter-s metre-s ",                 "1",          {1}},
    {" km kilometer-s kilometre-s ",        "1000",       {1}},
    {" dm decimeter-s decimetre-s ",        "1/10",       {1}},
    {" cm centimeter-s centimetre-s ",      "1/100",      {1}},
    {" mm millimeter-s millimetre-s ",      "1/1000",     {1}},
    {" μm um micrometer-s micrometre-s ",   "1/1000000",  {1}},
    {" nm nanometer-s nanometre-s ",        "1/1000000000", {1}},
    {" in inch inches ",                    "127/5000",   {1}},
    {" ft foot feet ",                      "381/1250",   {1}},
    {" yd yard-s ",                         "1143/1250",  {1}},
    {" mi mile-s ",                         "201168/125", {1}},
    {" hectare-s ha ",                      "10000",      {2}},
    {" acre-s ",                            "316160658/78125", {2}},
    {" l L liter-s litre-s ",               "1/1000",     {3}},
    {" cl cL centiliter-s centilitre-s ",   "1/100000",   {3}},
    {" ml mL milliliter-s millilitre-s ",   "1/1000000",  {3}},
    {" g gram-s gramme-s ",                 "1/1000",     {0, 1}},
    {" kg kilogram-s kilo-s ",              "1",          {0, 1}},
    {" mg milligram-s ",                    "1/1000000",  {0, 1}},
    {" t tonne-s ",                         "1000",       {0, 1}},
    {" lb lbs pound-s ",                    "45359237/100000000", {0, 1}},
    {" oz ounce-s ",                        "45359237/1600000000", {0, 1}},
    {" s sec secs second-s ",               "1",          {0, 0, 1}},
    {" ms millisecond-s ",                  "1/1000",     {0, 0, 1}},
    {" min mins minute-s ",                 "60",         {0, 0, 1}},
    {" h hr hrs hour-s ",                   "3600",       {0, 0, 1}},
    {" day-s ",                             "86400",      {0, 0, 1}},
    {" week-s ",                            "604800",     {0, 0, 1}},
    {" month-s ",                           "1",          {0, 0, 0, 0, 0, 1}},
    {" year-s yr yrs ",                     "12",         {0, 0, 0, 0, 0, 1}},
    {" Hz hertz ",                          "1",          {0, 0, -1}},
    {" N newton-s ",                        "1",          {1, 1, -2}},
    {" J joule-s ",                         "1",          {2, 1, -2}},
    {" kJ kilojoule-s ",                    "1000",       {2, 1, -2}},
    {" W watt-s ",                          "1",          {2, 1, -3}},
    {" kW kilowatt-s ",                     "1000",       {2, 1, -3}},
    {" kWh ",                               "3600000",    {2, 1, -2}},
    {" Pa pascal-s ",                       "1",          {-1, 1, -2}},
    {" mph ",                               "1397/3125",  {1, 0, -1}},
    {" kph kmh ",                           "5/18",       {1, 0, -1}},
    {" K kelvin-s ",                        "1",          {0, 0, 0, 1}},
    {" dollar-s usd USD $ buck-s ",         "1",          {0, 0, 0, 0, 1}},
    {" cent-s ¢ ",                          "1/100",      {0, 0, 0, 0, 1}},
};
static const struct row scales[] = { /* numbers by another name */
    {" % percent ",                         "1/100",      {0}},
    {" ° degree-s deg ",                    "1/180",      {0}}, /* times pi */
    {" rad radian-s ",                      "1",          {0}},
    {" unit-s ",                            "1",          {0}},
};
/* clang-format on */

/* "-s" in the list lets an s follow. */
static bool names_it(const char *names, struct pd_str name)
{
    for (const char *z = names; (z = strstr(z, name.ptr)); z++) {
        const char *end = z + name.len;

        if (z == names || z[-1] != ' ')
            continue;
        if (*end == ' ' || (*end == '-' && end[1] == 's'))
            return true;
    }
    /* the plural */
    if (name.len > 3 && name.ptr[name.len - 1] == 's')
        for (const char *z = names; (z = strstr(z, "-s ")); z++) {
            const char *from = z;

            while (from > names && from[-1] != ' ')
                from--;
            if ((size_t)(z - from) == name.len - 1 && memcmp(from, name.ptr, name.len - 1) == 0)
                return true;
        }
    return false;
}

static struct math_unit *of_row(struct math *m, const struct row *r)
{
    struct math_unit *u = math_array(m, 1, sizeof *u);

    if (!u)
        return NULL;
    mpq_set_str(m->tmp[1], r->factor, 10);
    mpq_canonicalize(m->tmp[1]);
    memcpy(u->dim, r->dim, sizeof u->dim);
    u->factor = math_keep(m, m->tmp[1]);
    return u->factor ? u : NULL;
}

const struct math_unit *math_unit_find(struct math *m, struct pd_str name)
{
    struct pd_str z = {math_text(m, name), name.len};
    struct math_unit *u = NULL;

    if (!z.ptr || !z.len)
        return NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (names_it(rows[i].names, z))
            return of_row(m, &rows[i]);
    for (size_t i = 0; i < sizeof scales / sizeof *scales && !u; i++)
        if (names_it(scales[i].names, z) && (u = of_row(m, &scales[i]))) {
            u->scale = true;
            u->degrees = i == 1;
        }
    return u;
}

const struct math_unit *math_unit_mul(struct math *m, const struct math_unit *a,
                                      const struct math_unit *b, int sign)
{
    struct math_unit *u = math_dup(m, a, sizeof *a);

    if (!u)
        return NULL;
    for (int i = 0; i < MATH_DIMS; i++) {
        int d = a->dim[i] + sign * b->dim[i];

        if (d < -20 || d > 20)
            return NULL;
        u->dim[i] = (signed char)d;
    }
    if (sign > 0)
        mpq_mul(m->tmp[1], a->factor, b->factor);
    else
        mpq_div(m->tmp[1], a->factor, b->factor);
    u->factor = math_keep(m, m->tmp[1]);
    return u->factor ? u : NULL;
}

const struct math_unit *math_unit_power(struct math *m, const struct math_unit *u, int k)
{
    const struct math_unit *r = u;

    for (int i = 1; r && i < k; i++)
        r = math_unit_mul(m, r, u, 1);
    return r;
}
