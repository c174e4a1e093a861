// Fetch: reads the program and hands every instruction to the process that executes it.
#ifndef SQUEEZEEDGE_VTA_FETCH_H
#define SQUEEZEEDGE_VTA_FETCH_H

#include "isa.h"

namespace vta {

// Commands that wait in each queue: the distance that fetch can run ahead of a process.
constexpr int QUEUE_DEPTH = 128;

using CommandQueue = Stream<Command, QUEUE_DEPTH>;

constexpr int INSTRUCTION_BYTES = 16;
constexpr int INSTRUCTION_BEATS = INSTRUCTION_BYTES / VTA_BUS_BYTES;

// Instructions of one burst; the next burst is requested before one is read, so its latency hides.
constexpr uint32_t FETCH_BURST = 16;

inline Instruction read_instruction(Port port) {
#pragma HLS inline
  Instruction instruction;
  for (int beat = 0; beat < INSTRUCTION_BEATS; ++beat) {
#pragma HLS pipeline II=1
    const Beat data = port.read();
    for (int i = 0; i < VTA_BUS_BYTES; ++i) {
#pragma HLS unroll
      const int at = beat * VTA_BUS_BYTES + i;
      const uint64_t byte = static_cast<uint64_t>(beat_byte(data, i)) << (8 * (at % 8));
      instruction.word[at / 8] = at % 8 == 0 ? byte : instruction.word[at / 8] | byte;
    }
  }
  return instruction;
}

inline uint32_t burst_length(uint32_t count, uint32_t first) {
  return count - first < FETCH_BURST ? count - first : FETCH_BURST;
}

inline void fetch(Port port, uint32_t count, uint64_t base, CommandQueue& load_queue, CommandQueue& compute_queue,
                  CommandQueue& store_queue) {
  const uint64_t first_beat = base / VTA_BUS_BYTES;
  if (count > 0) port.read_request(first_beat, burst_length(count, 0) * INSTRUCTION_BEATS);
  for (uint32_t first = 0; first < count; first += FETCH_BURST) {
    const uint32_t next = first + FETCH_BURST;
    if (next < count) {
      port.read_request(first_beat + static_cast<uint64_t>(next) * INSTRUCTION_BEATS,
                        burst_length(count, next) * INSTRUCTION_BEATS);
    }
    for (uint32_t i = 0; i < burst_length(count, first); ++i) {
      Command command;
      command.instruction = read_instruction(port);
      command.stop = false;
      switch (queue_of(command.instruction)) {
        case LOAD_QUEUE: load_queue.write(command); break;
        case STORE_QUEUE: store_queue.write(command); break;
        default: compute_queue.write(command); break;
      }
    }
  }
  Command stop;
  stop.instruction.word[0] = stop.instruction.word[1] = 0;
  stop.stop = true;
  load_queue.write(stop);
  compute_queue.write(stop);
  store_queue.write(stop);
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_FETCH_H
