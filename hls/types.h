// Hardware types: Xilinx's where they are installed, otherwise small ones with the same values, so that any C++14
// compiler builds the simulator. Only what the accelerator uses is here.
#ifndef SQUEEZEEDGE_VTA_TYPES_H
#define SQUEEZEEDGE_VTA_TYPES_H

#include <cstddef>
#include <cstdint>

#include "vta_config.h"

#if defined(__has_include)
#if __has_include(<ap_int.h>) && __has_include(<hls_stream.h>)
#define VTA_XILINX_TYPES 1
#include <ap_int.h>
#include <hls_stream.h>
#endif
#if __has_include(<hls_burst_maxi.h>)
#define VTA_XILINX_BURST 1
#include <hls_burst_maxi.h>
#endif
#endif

#ifndef VTA_XILINX_TYPES
#include <condition_variable>
#include <deque>
#include <mutex>
#endif
#ifndef VTA_XILINX_BURST
#include <cstring>
#endif

namespace vta {

#ifdef VTA_XILINX_TYPES

template <int WIDTH>
using Unsigned = ap_uint<WIDTH>;

template <int WIDTH>
using Signed = ap_int<WIDTH>;

// Vitis HLS takes the depth from the type; older headers know no depth and are only simulated.
#ifdef __VITIS_HLS__
template <typename T, int DEPTH>
using Stream = hls::stream<T, DEPTH>;
#else
template <typename T, int DEPTH>
using Stream = hls::stream<T>;
#endif

// One beat of a DRAM port, byte 0 in the low bits.
using Beat = ap_uint<8 * VTA_BUS_BYTES>;

inline uint8_t beat_byte(const Beat& beat, int index) {
#pragma HLS inline
  return static_cast<uint8_t>(beat.range(8 * index + 7, 8 * index).to_uint());
}

inline void set_beat_byte(Beat& beat, int index, uint8_t value) {
#pragma HLS inline
  beat.range(8 * index + 7, 8 * index) = value;
}

#else

// An unsigned number of WIDTH <= 32 bits; what is assigned wraps.
template <int WIDTH>
class Unsigned {
 public:
  Unsigned() : value_(0) {}
  template <typename T>
  Unsigned(T value) : value_(static_cast<uint32_t>(value) & MASK) {}
  operator uint32_t() const { return value_; }
  Unsigned& operator+=(uint32_t value) { return *this = Unsigned(value_ + value); }

 private:
  static_assert(WIDTH <= 32, "wider numbers are not used");
  static constexpr uint32_t MASK = WIDTH == 32 ? 0xffffffffU : (1U << (WIDTH & 31)) - 1;
  uint32_t value_;
};

// A two's complement number of WIDTH <= 32 bits; what is assigned wraps.
template <int WIDTH>
class Signed {
 public:
  Signed() : value_(0) {}
  template <typename T>
  Signed(T value) : value_(static_cast<int32_t>(static_cast<uint32_t>(value) << UNUSED) >> UNUSED) {}
  operator int32_t() const { return value_; }

 private:
  static_assert(WIDTH <= 32, "wider numbers are not used");
  static constexpr int UNUSED = 32 - WIDTH;
  int32_t value_;
};

// A FIFO between processes; reading an empty one and writing a full one waits for another thread.
template <typename T, int DEPTH>
class Stream {
 public:
  T read() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !data_.empty(); });
    const T value = data_.front();
    data_.pop_front();
    changed_.notify_all();
    return value;
  }
  void write(const T& value) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return data_.size() < DEPTH; });
    data_.push_back(value);
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> data_;
};

// One beat of a DRAM port.
struct Beat {
  uint8_t bytes[VTA_BUS_BYTES];
};

inline uint8_t beat_byte(const Beat& beat, int index) { return beat.bytes[index]; }

inline void set_beat_byte(Beat& beat, int index, uint8_t value) { beat.bytes[index] = value; }

#endif  // VTA_XILINX_TYPES

#ifdef VTA_XILINX_BURST

// Requests are separate from data, so rows can be requested ahead and their latency hides.
using Port = hls::burst_maxi<Beat>;

#else

// The methods of hls::burst_maxi on a buffer. A request outside of it reads zeros, writes nothing and is remembered.
class Port {
 public:
  // What the copies of a port share.
  struct Dram {
    uint8_t* data;
    uint64_t beats;
    bool fault;                // a request was outside of the buffer
    uint64_t fault_beat;       // where the first one was
    uint64_t requests[2][16];  // outstanding requests of reads and writes: next beat
    uint64_t lengths[2][16];   // beats that remain of each
    unsigned first[2];
    unsigned count[2];
  };

  explicit Port(Dram* dram) : dram_(dram) {}

  void read_request(size_t beat, size_t length) { request(0, beat, length); }
  void write_request(size_t beat, size_t length) { request(1, beat, length); }

  Beat read() {
    Beat beat;
    uint8_t bytes[VTA_BUS_BYTES];
    const uint8_t* source = advance(0);
    if (source) {
      std::memcpy(bytes, source, VTA_BUS_BYTES);
    } else {
      std::memset(bytes, 0, VTA_BUS_BYTES);
    }
    for (int i = 0; i < VTA_BUS_BYTES; ++i) set_beat_byte(beat, i, bytes[i]);
    return beat;
  }

  void write(const Beat& beat) {
    uint8_t* target = advance(1);
    for (int i = 0; target && i < VTA_BUS_BYTES; ++i) target[i] = beat_byte(beat, i);
  }

  void write_response() {}

 private:
  void request(int kind, uint64_t beat, uint64_t length) {
    if (beat > dram_->beats || length > dram_->beats - beat) {
      if (!dram_->fault) dram_->fault_beat = beat;
      dram_->fault = true;
      beat = dram_->beats;
    }
    const unsigned slot = (dram_->first[kind] + dram_->count[kind]++) % 16;
    dram_->requests[kind][slot] = beat;
    dram_->lengths[kind][slot] = length;
  }

  // The buffer at the next beat of the oldest request; null outside of the buffer.
  uint8_t* advance(int kind) {
    unsigned& slot = dram_->first[kind];
    while (dram_->count[kind] > 0 && dram_->lengths[kind][slot] == 0) {
      slot = (slot + 1) % 16;
      --dram_->count[kind];
    }
    uint64_t& beat = dram_->requests[kind][slot];
    --dram_->lengths[kind][slot];
    return beat < dram_->beats ? dram_->data + VTA_BUS_BYTES * beat++ : nullptr;
  }

  Dram* dram_;
};

#endif  // VTA_XILINX_BURST

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_TYPES_H
