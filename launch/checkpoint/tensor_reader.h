// The numbers of a tensor of a folder, in whatever format they are stored. fp8 weights stand with
// one scale for each block of 128 x 128 (DeepSeek-V3): tensor NAME in F8_E4M3 [rows, cols] and
// NAME_scale_inv [ceil(rows / 128), ceil(cols / 128)]; a weight is the product of the two.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/checkpoint/weight_files.h"

namespace witan {

class TensorReader {
 public:
  // UserError if there is no such tensor, or one of fp8 without fitting scales.
  TensorReader(WeightFiles& files, const std::string& name);

  const StTensor& tensor() const { return *entry_.tensor; }
  // Elements [begin, begin + count) into `to`: F64, F32 or BF16, or the format stored.
  void read(std::int64_t begin, std::int64_t count, StDType dtype, void* to) const;
  // The numbers are not needed again soon: see SafetensorsReader::release.
  void release() const { entry_.file->release(*entry_.tensor); }

 private:
  WeightFiles::Entry entry_;
  std::vector<float> scales_;  // of the blocks; fp8 only
  std::int64_t cols_ = 0, block_cols_ = 0;
};

// Of the scales of an fp8 tensor.
std::string scale_name(const std::string& tensor);
std::vector<std::int64_t> scale_shape(const std::vector<std::int64_t>& tensor);

}  // namespace witan
