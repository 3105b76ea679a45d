// The safetensors format: an 8-byte header length, a JSON header, raw little-endian tensors. Read
// by mmap, written in one pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/checkpoint/output_file.h"

namespace witan {

enum class StDType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool, kF8E4M3 };
std::size_t size_of(StDType dtype);
const char* name_of(StDType dtype);  // "F32"
std::optional<StDType> st_dtype_of(std::string_view name);

struct StTensor {
  std::string name;
  StDType dtype = StDType::kF32;
  std::vector<std::int64_t> shape;
  std::size_t begin = 0;  // bytes from the start of the data section; set by reader and writer
  std::size_t bytes = 0;  // set by reader and writer
};

// Opens and checks a file: header length, JSON, duplicate keys, dtypes, sizes, overlaps, gaps, file
// length. A UserError names the file, the tensor and what is wrong.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::string& path);
  ~SafetensorsReader();
  SafetensorsReader(SafetensorsReader&&) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&&) noexcept;

  const std::string& path() const;
  const std::map<std::string, StTensor>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;
  const StTensor* find(const std::string& name) const;  // null if there is none
  // Not necessarily aligned to the dtype: the format allows a byte tensor in front of a wider one.
  const std::byte* data(const StTensor& tensor) const;
  // Tells the system that the tensor's bytes will not be needed soon: they leave this process's
  // memory and are read again where they are asked for after all.
  void release(const StTensor& tensor) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Writes PATH: header first, then the tensors in the order declared, each in any number of pieces.
// finish() checks that all bytes came, and fsyncs. Every system call is checked: a full disk is a
// UserError that names the file and the bytes missing. Without finish() the file is removed.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, std::vector<StTensor> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  void write(const void* data, std::size_t bytes);
  FileDigest finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace witan
