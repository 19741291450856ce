/* Made by tests/reference/stats.py (SciPy). */
static const struct {
    unsigned k, n;
    double low, high;
} wilson[] = {
    {0, 10, 0, 0.277532799862889},  {3, 10, 0.107791267406301, 0.603221852538855},
    {10, 10, 0.722467200137111, 1}, {77, 150, 0.434017912707393, 0.591982880776125},
    {1, 1, 0.206549314377237, 1},   {499, 1000, 0.468073488750724, 0.529934164766247},
    {0, 1, 0, 0.793450685622763},
};
static const struct {
    unsigned b, c;
    double p;
} mcnemar[] = {
    {0, 0, 1},
    {1, 0, 1},
    {5, 0, 0.0625},
    {3, 9, 0.14599609375},
    {9, 3, 0.14599609375},
    {40, 60, 0.0568879336409809},
    {200, 150, 0.00872003653055594},
    {7, 7, 1},
};
static const struct {
    double q, value;
} quantiles[] = {
    {0, 0.5}, {0.025, 0.575}, {0.25, 1}, {0.5, 2.25}, {0.6, 2.7}, {0.975, 10.4}, {1, 11},
};
static const double coverage_a = -0.888341307412635, coverage_b = -0.456630271948648,
                    coverage_rms = 0.00607536586804508;
static const double saturation_f = 0.7641980296347, saturation_p = 0.225440131462161,
                    saturation_rms = 0.00895234476752035;
static const double bootstrap_low = -0.1, bootstrap_high = 0.4; /* +- .02 by chance */
