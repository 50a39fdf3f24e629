/* The model section: all that turns a query into scores (8-bit form, rotation, compander,
 * allotment, levels). */
#include "format.h"

#include "error.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "mem.h"

struct model_header {
    uint32_t code_dim, order_count, level_count, reserved;
    float step, level_quantum;
    uint8_t level_bytes[128];
};

struct level_disk {
    uint32_t code_bytes, groups[PLANES_MAX];
    float kappa;
    uint32_t scale_base;
    float offset_min, offset_step;
    uint32_t factor_bytes;
    uint8_t reserved[16];
};

_Static_assert(sizeof(struct model_header) == 152, "see docs/FORMAT.md");
_Static_assert(sizeof(struct level_disk) == 64, "see docs/FORMAT.md");

/* The largest base at which every stored scale is a finite float. */
static uint32_t scale_base_max(uint32_t factor_bytes)
{
    struct planes_packing packing = planes_packing(factor_bytes);
    return UINT32_C(0x7f7fffff) - (((1u << packing.scale_bits) - 1) << packing.scale_shift);
}

/* Arrays follow the header in this order; each starts at a multiple of 4. */
struct model_layout {
    size_t mean, rotation_scale, sigma, levels, order, origin, rotation, end;
};

static struct model_layout layout_of(uint32_t dim, uint32_t code_dim, uint32_t order_count,
                                     uint32_t level_count)
{
    struct model_layout at;
    at.mean = sizeof(struct model_header);
    at.rotation_scale = at.mean + 4 * (size_t)dim;
    at.sigma = at.rotation_scale + 4 * (size_t)code_dim;
    at.levels = at.sigma + 4 * (size_t)code_dim;
    at.order = at.levels + sizeof(struct level_disk) * (size_t)level_count;
    at.origin = at.order + size_round_up(2 * (size_t)order_count, 4);
    at.rotation = at.origin + size_round_up(dim, 4);
    at.end = at.rotation + (size_t)code_dim * dim;
    return at;
}

static struct model_layout layout_of_model(const struct model *model)
{
    const struct planes_model *p = &model->planes;
    return layout_of(p->dim, p->code_dim, p->order_count, p->level_count);
}

size_t model_encoded_bytes(const struct model *model)
{
    return layout_of_model(model).end;
}

void model_encode(const struct model *model, uint8_t *out)
{
    const struct planes_model *p = &model->planes;
    struct model_layout at = layout_of_model(model);
    struct model_header header = {.code_dim = p->code_dim,
                                  .order_count = p->order_count,
                                  .level_count = p->level_count,
                                  .step = model->row8.step,
                                  .level_quantum = p->level_quantum};
    memset(out, 0, at.end);
    memcpy(header.level_bytes, p->level_bytes, sizeof header.level_bytes);
    memcpy(out, &header, sizeof header);
    memcpy(out + at.mean, model->row8.mean, 4 * (size_t)p->dim);
    memcpy(out + at.rotation_scale, p->rotation_scale, 4 * (size_t)p->code_dim);
    memcpy(out + at.sigma, p->sigma, 4 * (size_t)p->code_dim);
    memcpy(out + at.order, p->order, 2 * (size_t)p->order_count);
    memcpy(out + at.origin, p->origin, p->dim);
    memcpy(out + at.rotation, p->rotation, (size_t)p->code_dim * p->dim);
    for (uint32_t l = 0; l < p->level_count; l++) {
        const struct planes_level *level = &p->levels[l];
        struct level_disk disk = {.code_bytes = level->code_bytes,
                                  .kappa = level->kappa,
                                  .scale_base = level->scale_base,
                                  .offset_min = level->offset_min,
                                  .offset_step = level->offset_step,
                                  .factor_bytes = level->factor_bytes};
        memcpy(disk.groups, level->groups, sizeof disk.groups);
        memcpy(out + at.levels + l * sizeof disk, &disk, sizeof disk);
    }
}

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* Of the two arrays that may end within four bytes. */
static bool padding_is_zero(const uint8_t *bytes, const struct model_layout *at,
                            const struct planes_model *p)
{
    uint8_t any = 0;
    for (size_t i = at->order + 2 * (size_t)p->order_count; i < at->origin; i++)
        any |= bytes[i];
    for (size_t i = at->origin + p->dim; i < at->rotation; i++)
        any |= bytes[i];
    return any == 0;
}

/* Each plane covers the first groups without a gap, and each unit is taken once: what the kernels
 * rely on. */
static bool order_valid(const struct planes_model *p)
{
    uint32_t next[PLANES_MAX] = {0};
    for (uint32_t i = 0; i < p->order_count; i++) {
        unsigned plane = p->order[i] >> 12, group = p->order[i] & 0xfff;
        if (plane >= PLANES_MAX || group >= p->code_dim / PLANES_GROUP || group != next[plane] ||
            (plane > 0 && next[plane] >= next[plane - 1]))
            return false;
        next[plane]++;
    }
    return true;
}

static bool level_valid(const struct planes_model *p, uint32_t l)
{
    const struct planes_level *level = &p->levels[l];
    uint32_t groups[PLANES_MAX] = {0};
    if (level->code_bytes == 0 || level->code_bytes > p->order_count ||
        (l > 0 && level->code_bytes <= p->levels[l - 1].code_bytes))
        return false;
    for (uint32_t i = 0; i < level->code_bytes; i++)
        groups[p->order[i] >> 12]++;
    return memcmp(groups, level->groups, sizeof groups) == 0 && isfinite(level->kappa) &&
           level->kappa >= 0 && isfinite(level->offset_min) && isfinite(level->offset_step) &&
           level->offset_step > 0 && (level->factor_bytes == 2 || level->factor_bytes == 4) &&
           level->scale_base <= scale_base_max(level->factor_bytes);
}

/* False when a reserved byte is not zero. */
static bool decode_levels(struct planes_level *levels, const uint8_t *bytes, uint32_t count)
{
    uint8_t reserved = 0;
    for (uint32_t l = 0; l < count; l++) {
        struct level_disk disk;
        memcpy(&disk, bytes + l * sizeof disk, sizeof disk);
        levels[l] = (struct planes_level){.code_bytes = disk.code_bytes,
                                          .kappa = disk.kappa,
                                          .scale_base = disk.scale_base,
                                          .offset_min = disk.offset_min,
                                          .offset_step = disk.offset_step,
                                          .factor_bytes = disk.factor_bytes};
        memcpy(levels[l].groups, disk.groups, sizeof disk.groups);
        for (size_t i = 0; i < sizeof disk.reserved; i++)
            reserved |= disk.reserved[i];
    }
    return reserved == 0;
}

/* Pointers into memory: the section as it was read, and behind it its levels, decoded. */
static void point_into(struct model *out, const uint8_t *memory, const struct model_header *header,
                       const struct model_layout *at, const struct planes_level *levels,
                       uint32_t dim)
{
    out->row8 = (struct row8_model){
        .dim = dim, .step = header->step, .mean = (const float *)(memory + at->mean)};
    out->planes =
        (struct planes_model){.dim = dim,
                              .code_dim = header->code_dim,
                              .order_count = header->order_count,
                              .level_count = header->level_count,
                              .rotation = (const int8_t *)(memory + at->rotation),
                              .rotation_scale = (const float *)(memory + at->rotation_scale),
                              .sigma = (const float *)(memory + at->sigma),
                              .order = (const uint16_t *)(memory + at->order),
                              .origin = memory + at->origin,
                              .levels = levels,
                              .level_bytes = memory + offsetof(struct model_header, level_bytes),
                              .level_quantum = header->level_quantum};
}

static bool sizes_valid(const struct model_header *header)
{
    return header->code_dim > 0 && header->code_dim % PLANES_GROUP == 0 &&
           header->code_dim <= PLANES_GROUPS_MAX * PLANES_GROUP && header->order_count > 0 &&
           header->order_count <= PLANES_MAX * header->code_dim / PLANES_GROUP &&
           header->reserved == 0 && header->level_count > 0 &&
           header->level_count <= PLANES_LEVELS_MAX;
}

static bool values_valid(const struct model *model, const uint8_t *memory,
                         const struct model_layout *at)
{
    const struct planes_model *p = &model->planes;
    bool valid = isfinite(model->row8.step) && model->row8.step > 0 && isfinite(p->level_quantum) &&
                 all_finite(model->row8.mean, p->dim) &&
                 all_finite(p->rotation_scale, p->code_dim) && all_finite(p->sigma, p->code_dim) &&
                 padding_is_zero(memory, at, p) && order_valid(p);
    for (uint32_t l = 0; valid && l < p->level_count; l++)
        valid = level_valid(p, l);
    return valid;
}

int model_decode(struct model *out, const uint8_t *bytes, size_t count,
                 const struct properties *properties, const char *path, struct fathom_error *err)
{
    struct model_header header;
    memset(out, 0, sizeof *out);
    if (count < sizeof header)
        return error_set(err, FATHOM_ECORRUPT, "%s: model section is too short", path);
    memcpy(&header, bytes, sizeof header);
    if (!sizes_valid(&header))
        return error_set(err, FATHOM_ECORRUPT, "%s: model section: a size is out of range", path);
    uint32_t dim = properties->work_dim;
    struct model_layout at =
        layout_of(dim, header.code_dim, header.order_count, header.level_count);
    if (count != at.end)
        return error_set(err, FATHOM_ECORRUPT,
                         "%s: model section has %zu bytes, its sizes ask for %zu", path, count,
                         at.end);
    size_t levels_at = size_round_up(at.end, 64);
    size_t total = levels_at + header.level_count * sizeof(struct planes_level);
    uint8_t *memory = mem_alloc(total);
    if (!memory)
        return error_set(err, -ENOMEM, "%s: no memory for the model (%zu bytes)", path, total);
    memcpy(memory, bytes, count);
    out->memory = memory;
    out->bytes = total;
    struct planes_level *levels = (struct planes_level *)(memory + levels_at);
    bool reserved_zero = decode_levels(levels, memory + at.levels, header.level_count);
    point_into(out, memory, &header, &at, levels, dim);
    if (reserved_zero && values_valid(out, memory, &at))
        return 0;
    model_fini(out);
    return error_set(err, FATHOM_ECORRUPT, "%s: model section: a value is out of range", path);
}

void model_fini(struct model *model)
{
    mem_free(model->memory);
    memset(model, 0, sizeof *model);
}
