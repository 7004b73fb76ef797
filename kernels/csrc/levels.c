/* The kernels at one level of instructions: compiled once for each, with -DLEVEL=its name. */
#include "resample.h"
#include "rows.h"
#include "winograd.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

const struct rzk_table JOIN(rzk_table_, LEVEL) = {
    VW, conv3x3_filters, conv3x3, deform_conv, weighted_rows, attention_sums, attention_mix,
    resample_across, resample_down,
};
