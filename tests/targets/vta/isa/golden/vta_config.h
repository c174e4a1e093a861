// Generated from the geometry and the instruction classes.
#ifndef SQUEEZEEDGE_VTA_CONFIG_H
#define SQUEEZEEDGE_VTA_CONFIG_H

#define VTA_BLOCK 16
#define VTA_BUS_BYTES 8
#define VTA_DSP_PACKING 1
#define VTA_SIGN 128
#define VTA_SHIFT_BITS 4
#define VTA_UOP_BITS 13
#define VTA_INP_BITS 11
#define VTA_WGT_BITS 10
#define VTA_ACC_BITS 11
#define VTA_PAR_BITS 7

// Fields: word, lowest bit, bits.
#define VTA_LOAD_MEMORY 0, 7, 3
#define VTA_LOAD_SRAM_BASE 0, 10, 16
#define VTA_LOAD_DRAM_BASE 0, 26, 32
#define VTA_LOAD_Y_SIZE 1, 0, 16
#define VTA_LOAD_X_SIZE 1, 16, 16
#define VTA_LOAD_X_STRIDE 1, 32, 16
#define VTA_LOAD_PAD_LOW 0, 58, 1
#define VTA_LOAD_Y_PAD_0 1, 48, 4
#define VTA_LOAD_Y_PAD_1 1, 52, 4
#define VTA_LOAD_X_PAD_0 1, 56, 4
#define VTA_LOAD_X_PAD_1 1, 60, 4
#define VTA_STORE_MEMORY 0, 7, 3
#define VTA_STORE_SRAM_BASE 0, 10, 16
#define VTA_STORE_DRAM_BASE 0, 26, 32
#define VTA_STORE_Y_SIZE 1, 0, 16
#define VTA_STORE_X_SIZE 1, 16, 16
#define VTA_STORE_X_STRIDE 1, 32, 16
#define VTA_GEMM_RESET 0, 7, 1
#define VTA_GEMM_UOP_BGN 0, 8, 13
#define VTA_GEMM_UOP_END 0, 21, 14
#define VTA_GEMM_ITER_OUT 0, 35, 14
#define VTA_GEMM_ITER_IN 0, 49, 14
#define VTA_GEMM_DST_OUT 1, 0, 11
#define VTA_GEMM_DST_IN 1, 11, 11
#define VTA_GEMM_SRC_OUT 1, 22, 11
#define VTA_GEMM_SRC_IN 1, 33, 11
#define VTA_GEMM_WGT_OUT 1, 44, 10
#define VTA_GEMM_WGT_IN 1, 54, 10
#define VTA_ALU_RESET 0, 7, 1
#define VTA_ALU_UOP_BGN 0, 8, 13
#define VTA_ALU_UOP_END 0, 21, 14
#define VTA_ALU_ITER_OUT 0, 35, 14
#define VTA_ALU_ITER_IN 0, 49, 14
#define VTA_ALU_DST_OUT 1, 0, 11
#define VTA_ALU_DST_IN 1, 11, 11
#define VTA_ALU_SRC_OUT 1, 22, 11
#define VTA_ALU_SRC_IN 1, 33, 11
#define VTA_ALU_OP 1, 44, 3
#define VTA_ALU_USE_IMM 1, 47, 1
#define VTA_ALU_IMM 1, 48, 16
#define VTA_XGEMM_UOP_BGN 0, 7, 13
#define VTA_XGEMM_UOPS 0, 20, 10
#define VTA_XGEMM_BLOCKS 0, 30, 7
#define VTA_XGEMM_ROWS 0, 37, 8
#define VTA_XGEMM_COLS 0, 45, 11
#define VTA_XGEMM_EPILOGUE 0, 56, 2
#define VTA_XGEMM_ACCUMULATE 0, 58, 1
#define VTA_XGEMM_LOW 0, 59, 1
#define VTA_XGEMM_RELU 0, 60, 1
#define VTA_XGEMM_SRC_BASE 1, 0, 11
#define VTA_XGEMM_DST_BASE 1, 11, 11
#define VTA_XGEMM_WGT_BASE 1, 22, 10
#define VTA_XGEMM_SRC_ROW 1, 32, 11
#define VTA_XGEMM_DST_BLOCK 1, 43, 11
#define VTA_XGEMM_SRC_COL 1, 54, 3
#define VTA_XGEMM_PAR 1, 57, 7
#define VTA_XPOOL_SRAM_BASE 0, 7, 11
#define VTA_XPOOL_DRAM_BASE 0, 18, 32
#define VTA_XPOOL_KERNEL_H 0, 50, 3
#define VTA_XPOOL_KERNEL_W 0, 53, 3
#define VTA_XPOOL_STRIDE_H 0, 56, 3
#define VTA_XPOOL_STRIDE_W 0, 59, 3
#define VTA_XPOOL_Y_SIZE 1, 0, 8
#define VTA_XPOOL_X_SIZE 1, 8, 11
#define VTA_XPOOL_X_STRIDE 1, 19, 16
#define VTA_XPOOL_ROWS 1, 35, 8
#define VTA_XPOOL_COLS 1, 43, 11
#define VTA_XPOOL_PAD_TOP 1, 54, 3
#define VTA_XPOOL_PAD_LEFT 1, 57, 3
#define VTA_XADD_BLOCKS 0, 7, 7
#define VTA_XADD_COUNT 0, 14, 11
#define VTA_XADD_PAR 0, 25, 7
#define VTA_XADD_LOW 0, 32, 1
#define VTA_XADD_A_BASE 1, 0, 11
#define VTA_XADD_B_BASE 1, 11, 11
#define VTA_XADD_DST_BASE 1, 22, 11

#endif  // SQUEEZEEDGE_VTA_CONFIG_H
