// The safetensors files of a folder, seen as one set of tensors: STEM.safetensors, or the shards
// that STEM.safetensors.index.json names. Shards are opened when a tensor of theirs is asked for.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/model/param_table.h"
#include "launch/checkpoint/safetensors.h"

namespace witan {

class WeightFiles {
 public:
  // STEM: "model" (weights) or "state" (moments). UserError if the folder has neither file, or the
  // index is malformed.
  WeightFiles(const std::string& folder, const std::string& stem);

  // Every tensor, with the name of its file within the folder.
  const std::map<std::string, std::string>& file_of() const { return file_of_; }
  const std::string& folder() const { return folder_; }

  struct Entry {
    const SafetensorsReader* file = nullptr;
    const StTensor* tensor = nullptr;
    const std::byte* data() const { return file->data(*tensor); }
  };
  // UserError if there is no such tensor, or its file is missing or malformed.
  Entry find(const std::string& name);
  const SafetensorsReader& open(const std::string& file);

  // Forgets the tensors of which `unwanted(name)`: neither missing nor unknown.
  void leave_out(const std::function<bool(const std::string&)>& unwanted);
  bool left_out(const std::string& name) const { return left_out_.count(name) > 0; }

 private:
  std::set<std::string> left_out_;
  std::string folder_;
  std::map<std::string, std::string> file_of_;
  std::map<std::string, SafetensorsReader> open_;
};

// One tensor that must be there.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  bool optional = false;  // may be missing
};

// Opens every file and compares: missing files and tensors, unknown tensors, other shapes, dtypes
// that are not floats, fp8 without its scales (tensor_reader.h). One line per problem, each begun
// by "\n  "; empty if all is well.
std::string find_problems(WeightFiles& files, const std::vector<ExpectedTensor>& expected);

// The weights of a model, and its state that has a name there. A tied head that is stored all the
// same and holds the embedding's bits, and the rotary frequencies that old folders hold, are no
// problem, nor is state that a checkpoint of Witan lacks.
std::string find_weight_problems(WeightFiles& files, const ParamTable& table);

// The layer of "model.layers.LAYER. ..."; -1: not of a layer.
std::int64_t hf_layer_of(const std::string& name);

// "[4, 8]"
std::string to_string(const std::vector<std::int64_t>& shape);

}  // namespace witan
