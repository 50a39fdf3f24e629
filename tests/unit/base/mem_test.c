/* Checked sizes, aligned memory, and little-endian bytes. */
#include "fathom_test.h"

#include <malloc.h>
#include <string.h>

#include "asan.h"
#include "le.h"
#include "mem.h"

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    size_t out;
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_false(size_add(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, &out));
    assert_false(size_mul(SIZE_MAX, 2, &out));
    assert_false(size_mul((size_t)1 << 32, (size_t)1 << 32, &out));
}

static void sizes_up_to_the_limit_are_exact(void **state)
{
    (void)state;
    size_t out;
    assert_true(size_add(SIZE_MAX - 1, 1, &out));
    assert_int_equal(out, SIZE_MAX);
    assert_true(size_mul(SIZE_MAX / 3, 3, &out));
    assert_int_equal(out, SIZE_MAX / 3 * 3);
    assert_true(size_mul(0, SIZE_MAX, &out));
    assert_int_equal(out, 0);
    assert_int_equal(size_round_up(0, 64), 0);
    assert_int_equal(size_round_up(1, 64), 64);
    assert_int_equal(size_round_up(64, 64), 64);
    assert_int_equal(size_round_up(65, 64), 128);
}

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes < 10000; bytes = bytes * 3 + 1) {
        uint8_t *memory = mem_alloc(bytes);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % MEM_ALIGN, 0);
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, bytes); /* so that the next round sees used memory */
        mem_free(memory);
    }
}

static void pages_are_zeroed_and_aligned(void **state)
{
    (void)state;
    for (size_t pages = 1; pages < 40; pages = pages * 3 + 1) {
        uint8_t *memory = mem_alloc_pages(pages);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % MEM_PAGE, 0);
        for (size_t i = 0; i < pages * MEM_PAGE; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, pages * MEM_PAGE);
        mem_free_pages(memory, pages);
    }
    assert_null(mem_alloc_pages(0));
    assert_null(mem_alloc_pages(SIZE_MAX / 2));
    mem_free_pages(NULL, 7);
}

/* As when an index is opened again and again by a process that keeps something of each. */
static void pages_leave_no_holes_between_small_blocks(void **state)
{
    (void)state;
    if (HAS_ASAN)
        skip();
    void *kept[100];
    size_t before = mallinfo2().arena;
    for (size_t i = 0; i < 100; i++) {
        void *pages = mem_alloc_pages(16);
        kept[i] = mem_alloc(500);
        assert_non_null(pages);
        assert_non_null(kept[i]);
        mem_free_pages(pages, 16);
    }
    assert_in_range(mallinfo2().arena - before, 0, 256 << 10);
    for (size_t i = 0; i < 100; i++)
        mem_free(kept[i]);
}

static size_t prepared_bytes;

static void soil(void *memory, size_t bytes)
{
    memset(memory, 0xff, bytes);
    prepared_bytes = bytes;
}

static void memory_is_prepared_before_it_is_zeroed(void **state)
{
    (void)state;
    uint8_t *memory = mem_alloc_prepared(1000, soil);
    assert_non_null(memory);
    assert_int_equal(prepared_bytes, 1024); /* all that was taken */
    assert_int_equal((uintptr_t)memory % MEM_ALIGN, 0);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    mem_free(memory);
    mem_free(mem_alloc_prepared(1000, NULL));
}

static void no_bytes_give_a_unique_pointer(void **state)
{
    (void)state;
    void *a = mem_alloc(0), *b = mem_alloc(0);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    mem_free(a);
    mem_free(b);
    mem_free(NULL);
}

static void an_array_that_overflows_is_no_memory(void **state)
{
    (void)state;
    assert_null(mem_alloc_array(SIZE_MAX / 4, 8));
    assert_null(mem_alloc(SIZE_MAX));
    assert_null(mem_alloc(SIZE_MAX - 62)); /* its rounding up would wrap to a small size */
    uint64_t *array = mem_alloc_array(10, sizeof *array);
    assert_non_null(array);
    mem_free(array);
}

static bool fail_when_zero(void *context)
{
    int *left = context;
    return (*left)-- == 0;
}

static void the_fault_hook_fails_the_allocation_it_chooses(void **state)
{
    (void)state;
    int left = 1;
    mem_set_fault(fail_when_zero, &left);
    void *first = mem_alloc(8), *second = mem_alloc_array(2, 8), *third = mem_alloc_pages(1),
         *fourth = NULL;
    left = 0;
    fourth = mem_alloc_pages(1);
    mem_set_fault(NULL, NULL);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_null(fourth);
    mem_free(first);
    mem_free_pages(third, 1);
}

static void bytes_are_little_endian_at_any_alignment(void **state)
{
    (void)state;
    uint8_t bytes[16];
    for (size_t at = 0; at < 8; at++) {
        memset(bytes, 0, sizeof bytes);
        le_store64(bytes + at, 0x0807060504030201u);
        for (int i = 0; i < 8; i++)
            assert_int_equal(bytes[at + (size_t)i], i + 1);
        assert_int_equal(le_load64(bytes + at), 0x0807060504030201u);
        assert_int_equal(le_load32(bytes + at), 0x04030201u);
        assert_int_equal(le_load16(bytes + at), 0x0201u);
        le_store32(bytes + at, 0xa4a3a2a1u);
        le_store16(bytes + at + 4, 0xb2b1u);
        assert_int_equal(le_load64(bytes + at), 0x0807b2b1a4a3a2a1u);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(sizes_that_overflow_are_refused),
    cmocka_unit_test(sizes_up_to_the_limit_are_exact),
    cmocka_unit_test(memory_is_zeroed_and_aligned),
    cmocka_unit_test(pages_are_zeroed_and_aligned),
    cmocka_unit_test(pages_leave_no_holes_between_small_blocks),
    cmocka_unit_test(memory_is_prepared_before_it_is_zeroed),
    cmocka_unit_test(no_bytes_give_a_unique_pointer),
    cmocka_unit_test(an_array_that_overflows_is_no_memory),
    cmocka_unit_test(the_fault_hook_fails_the_allocation_it_chooses),
    cmocka_unit_test(bytes_are_little_endian_at_any_alignment),
};

FATHOM_TEST_MAIN(tests)
