typedef unsigned int uint;
typedef unsigned char uchar;
#ifdef __CUDACC_RTC__
typedef long long int64_t;
#endif

// Both take unsigned activations and signed weights; neither saturates.
static __device__ __forceinline__ int dp4a_u8s8(uint a, uint b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
static __device__ __forceinline__ void mma_u8s8(int* c, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
extern "C" __global__ void __launch_bounds__(128) stage0_conv_kernel(uint* __restrict__ c0_ptr, int* __restrict__ c1_ptr, uchar* __restrict__ x0_ptr, uchar* __restrict__ y_ptr);
extern "C" __global__ void __launch_bounds__(128) stage1_head_kernel(uint* __restrict__ c0_ptr, int* __restrict__ c1_ptr, uchar* __restrict__ x0_ptr, int* __restrict__ y_ptr);
extern "C" __global__ void __launch_bounds__(128) stage0_conv_kernel(uint* __restrict__ c0_ptr, int* __restrict__ c1_ptr, uchar* __restrict__ x0_ptr, uchar* __restrict__ y_ptr) {
  alignas(64) int _ptr[4];
  alignas(64) int _ptr_1[8];
  alignas(64) uint _ptr_2[4];
  alignas(64) uint _ptr_3[2];
  __shared__ alignas(64) uint _ptr_4[1152];
  alignas(64) uint _ptr_5[4];
  alignas(64) uint _ptr_6[4];
  alignas(64) uint _ptr_7[1];
  int cse_v1 = (((int)threadIdx.x) & 3);
  int cse_v6 = ((((int)threadIdx.x) & 63) >> 5);
  int cse_v13 = ((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4));
  _ptr[0] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 32)];
  _ptr[1] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 33)];
  _ptr[2] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 34)];
  _ptr[3] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 35)];
  _ptr_1[0] = c1_ptr[((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4))];
  _ptr_1[2] = c1_ptr[((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4))];
  int cse_v19 = (((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 1);
  _ptr_1[1] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 1)];
  _ptr_1[3] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 1)];
  int cse_v20 = (((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 2);
  _ptr_1[4] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 2)];
  _ptr_1[6] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 2)];
  int cse_v21 = (((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 3);
  _ptr_1[5] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 3)];
  _ptr_1[7] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 3)];
  *(uint4*)(_ptr_2 + 0) = *(uint4*)(c0_ptr + (min(((int)threadIdx.x), 63) * 4));
  _ptr_3[0] = (uint)0;
  int cse_v2 = (((int)blockIdx.z) * 243);
  int cse_v3 = (((int)threadIdx.x) & 7);
  int cse_v4 = (((int)threadIdx.x) & 31);
  int cse_v7 = ((((int)threadIdx.x) & 7) * 4);
  int cse_v9 = ((((int)blockIdx.z) * 243) + ((((int)threadIdx.x) >> 5) * 54));
  int cse_v10 = min(((((int)threadIdx.x) & 7) * 4), 26);
  int cse_v11 = (((((int)threadIdx.x) & 31) >> 3) * 6);
  int cse_v14 = (min(((((int)threadIdx.x) & 7) * 4), 26) % 9);
  int cse_v22 = ((min(((((int)threadIdx.x) & 7) * 4), 26) / 9) * 27);
  _ptr_3[0] = (_ptr_3[0] | (((uint)x0_ptr[(((((((int)blockIdx.z) * 243) + ((((int)threadIdx.x) >> 5) * 54)) + ((min(((((int)threadIdx.x) & 7) * 4), 26) / 9) * 27)) + (((((int)threadIdx.x) & 31) >> 3) * 6)) + (min(((((int)threadIdx.x) & 7) * 4), 26) % 9))]) << (uint)0));
  int cse_v15 = min((((((int)threadIdx.x) & 7) * 4) + 1), 26);
  int cse_v23 = (min((((((int)threadIdx.x) & 7) * 4) + 1), 26) % 9);
  int cse_v27 = ((min((((((int)threadIdx.x) & 7) * 4) + 1), 26) / 9) * 27);
  _ptr_3[0] = (_ptr_3[0] | (((uint)x0_ptr[(((((((int)blockIdx.z) * 243) + ((((int)threadIdx.x) >> 5) * 54)) + ((min((((((int)threadIdx.x) & 7) * 4) + 1), 26) / 9) * 27)) + (((((int)threadIdx.x) & 31) >> 3) * 6)) + (min((((((int)threadIdx.x) & 7) * 4) + 1), 26) % 9))]) << (uint)8));
  int cse_v16 = min((((((int)threadIdx.x) & 7) * 4) + 2), 26);
  int cse_v24 = (min((((((int)threadIdx.x) & 7) * 4) + 2), 26) % 9);
  int cse_v28 = ((min((((((int)threadIdx.x) & 7) * 4) + 2), 26) / 9) * 27);
  _ptr_3[0] = (_ptr_3[0] | (((uint)x0_ptr[(((((((int)blockIdx.z) * 243) + ((((int)threadIdx.x) >> 5) * 54)) + ((min((((((int)threadIdx.x) & 7) * 4) + 2), 26) / 9) * 27)) + (((((int)threadIdx.x) & 31) >> 3) * 6)) + (min((((((int)threadIdx.x) & 7) * 4) + 2), 26) % 9))]) << (uint)16));
  int cse_v17 = min((((((int)threadIdx.x) & 7) * 4) + 3), 26);
  int cse_v25 = (min((((((int)threadIdx.x) & 7) * 4) + 3), 26) % 9);
  int cse_v29 = ((min((((((int)threadIdx.x) & 7) * 4) + 3), 26) / 9) * 27);
  _ptr_3[0] = (_ptr_3[0] | (((uint)x0_ptr[(((((((int)blockIdx.z) * 243) + ((((int)threadIdx.x) >> 5) * 54)) + ((min((((((int)threadIdx.x) & 7) * 4) + 3), 26) / 9) * 27)) + (((((int)threadIdx.x) & 31) >> 3) * 6)) + (min((((((int)threadIdx.x) & 7) * 4) + 3), 26) % 9))]) << (uint)24));
  _ptr_3[1] = (uint)0;
  _ptr_3[1] = (_ptr_3[1] | (((uint)x0_ptr[((((((int)blockIdx.z) * 243) + ((min(((((int)threadIdx.x) & 7) * 4), 26) / 9) * 27)) + (min(((((int)threadIdx.x) & 7) * 4), 26) % 9)) + 180)]) << (uint)0));
  _ptr_3[1] = (_ptr_3[1] | (((uint)x0_ptr[((((((int)blockIdx.z) * 243) + ((min((((((int)threadIdx.x) & 7) * 4) + 1), 26) / 9) * 27)) + (min((((((int)threadIdx.x) & 7) * 4) + 1), 26) % 9)) + 180)]) << (uint)8));
  _ptr_3[1] = (_ptr_3[1] | (((uint)x0_ptr[((((((int)blockIdx.z) * 243) + ((min((((((int)threadIdx.x) & 7) * 4) + 2), 26) / 9) * 27)) + (min((((((int)threadIdx.x) & 7) * 4) + 2), 26) % 9)) + 180)]) << (uint)16));
  _ptr_3[1] = (_ptr_3[1] | (((uint)x0_ptr[((((((int)blockIdx.z) * 243) + ((min((((((int)threadIdx.x) & 7) * 4) + 3), 26) / 9) * 27)) + (min((((((int)threadIdx.x) & 7) * 4) + 3), 26) % 9)) + 180)]) << (uint)24));
  int cse_v5 = (((int)threadIdx.x) * 4);
  *(uint4*)(_ptr_4 + ((((int)threadIdx.x) < 64) ? ((((int)threadIdx.x) * 4) + 384) : ((((int)threadIdx.x) * 4) + 640))) = *(uint4*)(_ptr_2 + 0);
  int cse_v12 = (((((int)threadIdx.x) >> 3) * 12) + (((int)threadIdx.x) & 7));
  _ptr_4[(((((int)threadIdx.x) >> 3) * 12) + (((int)threadIdx.x) & 7))] = _ptr_3[0];
  _ptr_4[((((((int)threadIdx.x) >> 3) * 12) + (((int)threadIdx.x) & 7)) + 192)] = _ptr_3[1];
  __syncthreads();
  int cse_v26 = ((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3));
  _ptr_5[0] = _ptr_4[((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3))];
  _ptr_5[1] = _ptr_4[(((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3)) + 96)];
  _ptr_5[2] = _ptr_4[(((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3)) + 4)];
  _ptr_5[3] = _ptr_4[(((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3)) + 100)];
  int cse_v18 = ((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31));
  _ptr_6[0] = _ptr_4[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 384)];
  _ptr_6[1] = _ptr_4[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 512)];
  _ptr_6[2] = _ptr_4[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 416)];
  _ptr_6[3] = _ptr_4[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 544)];
  mma_u8s8((&(_ptr_1[0])), _ptr_5[0], _ptr_5[1], _ptr_5[2], _ptr_5[3], _ptr_6[0], _ptr_6[1]);
  mma_u8s8((&(_ptr_1[4])), _ptr_5[0], _ptr_5[1], _ptr_5[2], _ptr_5[3], _ptr_6[2], _ptr_6[3]);
  int cse_v8 = ((((int)blockIdx.z) * 256) + (((int)threadIdx.x) * 4));
  if (((int)threadIdx.x) < 64) {
    if (((int)threadIdx.x) < 32) {
      _ptr_7[0] = (((((uint)0 | (((uint)max(min((_ptr_1[0] >> _ptr[0]), 255), 0)) << (uint)0)) | (((uint)max(min((_ptr_1[1] >> _ptr[1]), 255), 0)) << (uint)8)) | (((uint)max(min((_ptr_1[4] >> _ptr[2]), 255), 0)) << (uint)16)) | (((uint)max(min((_ptr_1[5] >> _ptr[3]), 255), 0)) << (uint)24));
        uint v_ = _ptr_7[0];
      *(uint*)(y_ptr + ((((int)blockIdx.z) * 256) + (((int)threadIdx.x) * 4))) = (*(uint *)(&(v_)));
    }
  }
  if (((int)threadIdx.x) < 64) {
    if (((int)threadIdx.x) < 32) {
      _ptr_7[0] = (((((uint)0 | (((uint)max(min((_ptr_1[2] >> _ptr[0]), 255), 0)) << (uint)0)) | (((uint)max(min((_ptr_1[3] >> _ptr[1]), 255), 0)) << (uint)8)) | (((uint)max(min((_ptr_1[6] >> _ptr[2]), 255), 0)) << (uint)16)) | (((uint)max(min((_ptr_1[7] >> _ptr[3]), 255), 0)) << (uint)24));
        uint v__1 = _ptr_7[0];
      *(uint*)(y_ptr + (((((int)blockIdx.z) * 256) + (((int)threadIdx.x) * 4)) + 128)) = (*(uint *)(&(v__1)));
    }
  }
}

extern "C" __global__ void __launch_bounds__(128) stage1_head_kernel(uint* __restrict__ c0_ptr, int* __restrict__ c1_ptr, uchar* __restrict__ x0_ptr, int* __restrict__ y_ptr) {
  alignas(64) int _ptr[8];
  alignas(64) uint _ptr_1[4];
  alignas(64) uint _ptr_2[4];
  __shared__ alignas(64) uint _ptr_3[1152];
  alignas(64) uint _ptr_4[4];
  alignas(64) uint _ptr_5[4];
  alignas(64) int _ptr_6[4];
  alignas(64) int _ptr_7[1];
  int cse_v1 = (((int)threadIdx.x) & 3);
  int cse_v6 = ((((int)threadIdx.x) & 63) >> 5);
  int cse_v7 = ((((int)threadIdx.x) & 3) * 4);
  int cse_v10 = (((((int)threadIdx.x) & 63) >> 5) * 16);
  int cse_v11 = ((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4));
  _ptr[0] = c1_ptr[((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4))];
  _ptr[2] = c1_ptr[((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4))];
  int cse_v13 = (((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 1);
  _ptr[1] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 1)];
  _ptr[3] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 1)];
  int cse_v14 = (((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 2);
  _ptr[4] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 2)];
  _ptr[6] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 2)];
  int cse_v15 = (((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 3);
  _ptr[5] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 3)];
  _ptr[7] = c1_ptr[(((((((int)threadIdx.x) & 63) >> 5) * 16) + ((((int)threadIdx.x) & 3) * 4)) + 3)];
  int cse_v2 = min(((int)threadIdx.x), 63);
  *(uint4*)(_ptr_1 + 0) = *(uint4*)(c0_ptr + (min(((int)threadIdx.x), 63) * 4));
    uint4 v_ = *(uint4*)(x0_ptr + ((((int)blockIdx.z) * 256) + (min((min(((int)threadIdx.x), 63) >> 1), 15) * 16)));
  *(uint4*)(_ptr_2 + 0) = (*(uint4 *)(&(v_)));
  int cse_v3 = (((int)threadIdx.x) * 4);
  int cse_v8 = ((((int)threadIdx.x) * 4) + 640);
  *(uint4*)(_ptr_3 + ((((int)threadIdx.x) < 64) ? ((((int)threadIdx.x) * 4) + 384) : ((((int)threadIdx.x) * 4) + 640))) = *(uint4*)(_ptr_1 + 0);
  *(uint4*)(_ptr_3 + ((((int)threadIdx.x) < 64) ? (((((int)threadIdx.x) >> 1) * 12) + ((((int)threadIdx.x) & 1) * 4)) : ((((int)threadIdx.x) * 4) + 640))) = *(uint4*)(_ptr_2 + 0);
  __syncthreads();
  int cse_v4 = (((int)threadIdx.x) >> 6);
  int cse_v5 = (((int)threadIdx.x) & 31);
  int cse_v9 = ((((int)threadIdx.x) & 31) >> 2);
  int cse_v16 = ((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3));
  _ptr_4[0] = _ptr_3[((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3))];
  _ptr_4[1] = _ptr_3[(((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3)) + 96)];
  _ptr_4[2] = _ptr_3[(((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3)) + 4)];
  _ptr_4[3] = _ptr_3[(((((((int)threadIdx.x) >> 6) * 192) + (((((int)threadIdx.x) & 31) >> 2) * 12)) + (((int)threadIdx.x) & 3)) + 100)];
  int cse_v12 = ((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31));
  _ptr_5[0] = _ptr_3[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 384)];
  _ptr_5[1] = _ptr_3[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 512)];
  _ptr_5[2] = _ptr_3[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 416)];
  _ptr_5[3] = _ptr_3[(((((((int)threadIdx.x) & 63) >> 5) * 64) + (((int)threadIdx.x) & 31)) + 544)];
  mma_u8s8((&(_ptr[0])), _ptr_4[0], _ptr_4[1], _ptr_4[2], _ptr_4[3], _ptr_5[0], _ptr_5[1]);
  mma_u8s8((&(_ptr[4])), _ptr_4[0], _ptr_4[1], _ptr_4[2], _ptr_4[3], _ptr_5[2], _ptr_5[3]);
  __syncthreads();
  _ptr_6[0] = 0;
  _ptr_6[1] = 0;
  _ptr_6[2] = 0;
  _ptr_6[3] = 0;
  if (((int)threadIdx.x) < 64) {
    _ptr_6[0] = (max(_ptr[0], 0) + _ptr_6[0]);
    _ptr_6[1] = (max(_ptr[1], 0) + _ptr_6[1]);
    _ptr_6[2] = (max(_ptr[4], 0) + _ptr_6[2]);
    _ptr_6[3] = (max(_ptr[5], 0) + _ptr_6[3]);
  }
  if (((int)threadIdx.x) < 64) {
    _ptr_6[0] = (max(_ptr[2], 0) + _ptr_6[0]);
    _ptr_6[1] = (max(_ptr[3], 0) + _ptr_6[1]);
    _ptr_6[2] = (max(_ptr[6], 0) + _ptr_6[2]);
    _ptr_6[3] = (max(_ptr[7], 0) + _ptr_6[3]);
  }
  int cse_v17 = (((((((int)threadIdx.x) >> 6) * 256) + (((((int)threadIdx.x) & 31) >> 2) * 32)) + (((((int)threadIdx.x) & 63) >> 5) * 16)) + ((((int)threadIdx.x) & 3) * 4));
    int v__1 = _ptr_6[0];
  _ptr_3[(((((((int)threadIdx.x) >> 6) * 256) + (((((int)threadIdx.x) & 31) >> 2) * 32)) + (((((int)threadIdx.x) & 63) >> 5) * 16)) + ((((int)threadIdx.x) & 3) * 4))] = (*(uint *)(&(v__1)));
    int v__2 = _ptr_6[1];
  _ptr_3[((((((((int)threadIdx.x) >> 6) * 256) + (((((int)threadIdx.x) & 31) >> 2) * 32)) + (((((int)threadIdx.x) & 63) >> 5) * 16)) + ((((int)threadIdx.x) & 3) * 4)) + 1)] = (*(uint *)(&(v__2)));
    int v__3 = _ptr_6[2];
  _ptr_3[((((((((int)threadIdx.x) >> 6) * 256) + (((((int)threadIdx.x) & 31) >> 2) * 32)) + (((((int)threadIdx.x) & 63) >> 5) * 16)) + ((((int)threadIdx.x) & 3) * 4)) + 2)] = (*(uint *)(&(v__3)));
    int v__4 = _ptr_6[3];
  _ptr_3[((((((((int)threadIdx.x) >> 6) * 256) + (((((int)threadIdx.x) & 31) >> 2) * 32)) + (((((int)threadIdx.x) & 63) >> 5) * 16)) + ((((int)threadIdx.x) & 3) * 4)) + 3)] = (*(uint *)(&(v__4)));
  __syncthreads();
  if (((int)threadIdx.x) < 32) {
    _ptr_7[0] = 0;
      uint v__5 = _ptr_3[((int)threadIdx.x)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__5))));
      uint v__6 = _ptr_3[(((int)threadIdx.x) + 32)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__6))));
      uint v__7 = _ptr_3[(((int)threadIdx.x) + 64)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__7))));
      uint v__8 = _ptr_3[(((int)threadIdx.x) + 96)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__8))));
      uint v__9 = _ptr_3[(((int)threadIdx.x) + 128)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__9))));
      uint v__10 = _ptr_3[(((int)threadIdx.x) + 160)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__10))));
      uint v__11 = _ptr_3[(((int)threadIdx.x) + 192)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__11))));
      uint v__12 = _ptr_3[(((int)threadIdx.x) + 224)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__12))));
      uint v__13 = _ptr_3[(((int)threadIdx.x) + 256)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__13))));
      uint v__14 = _ptr_3[(((int)threadIdx.x) + 288)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__14))));
      uint v__15 = _ptr_3[(((int)threadIdx.x) + 320)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__15))));
      uint v__16 = _ptr_3[(((int)threadIdx.x) + 352)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__16))));
      uint v__17 = _ptr_3[(((int)threadIdx.x) + 384)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__17))));
      uint v__18 = _ptr_3[(((int)threadIdx.x) + 416)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__18))));
      uint v__19 = _ptr_3[(((int)threadIdx.x) + 448)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__19))));
      uint v__20 = _ptr_3[(((int)threadIdx.x) + 480)];
    _ptr_7[0] = (_ptr_7[0] + (*(int *)(&(v__20))));
    if (((int)threadIdx.x) < 10) {
      atomicAdd((&(y_ptr[((((int)blockIdx.z) * 10) + ((int)threadIdx.x))])), _ptr_7[0]);
    }
  }
}

