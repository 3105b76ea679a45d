#include "launch/checkpoint/weight_files.h"

#include <cstring>
#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "launch/checkpoint/float_convert.h"
#include "launch/checkpoint/hf_tensors.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/output_file.h"
#include "launch/checkpoint/strict_json.h"
#include "launch/checkpoint/tensor_reader.h"

namespace witan {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

std::map<std::string, std::string> read_index(const std::string& path) {
  const json index = parse_strict_json(read_text_file(path), path);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object()) {
    throw_user_error(path, ": weight_map is missing");
  }
  std::map<std::string, std::string> file_of;
  for (const auto& [name, file] : map->items()) {
    const std::string plain = file.is_string() ? file.get<std::string>() : "";
    if (plain.empty() || fs::path(plain).filename().string() != plain) {
      throw_user_error(path, ": weight_map: tensor \"", name,
                       "\": expected the name of a file in this folder, found ", file.dump());
    }
    file_of[name] = plain;
  }
  return file_of;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool same_bits(const WeightFiles::Entry& a, const WeightFiles::Entry& b) {
  return a.tensor->dtype == b.tensor->dtype && a.tensor->shape == b.tensor->shape &&
         std::memcmp(a.data(), b.data(), a.tensor->bytes) == 0;
}

// Scales of an fp8 tensor, which is looked at with that tensor.
bool is_scale(WeightFiles& files, const std::string& name) {
  const std::string end = scale_name("");
  if (!ends_with(name, end)) return false;
  const std::string tensor = name.substr(0, name.size() - end.size());
  return files.file_of().count(tensor) > 0 && files.find(tensor).tensor->dtype == StDType::kF8E4M3;
}

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

// The tensor of the main model that a module of multi-token prediction shares and `name` is a copy
// of; empty: it is none.
std::string original_of(const WeightFiles& files, const std::string& name) {
  const std::int64_t layer = hf_layer_of(name);
  if (layer < 0) return "";
  for (const MtpCopy& copy : mtp_copies(layer)) {
    if (copy.name != name) continue;
    return copy.of_head && files.file_of().count(kHead) > 0 ? kHead : kEmbedding;
  }
  return "";
}

bool copy_of(WeightFiles& files, const std::string& name, const std::string& original) {
  return files.file_of().count(original) > 0 && same_bits(files.find(name), files.find(original));
}

bool harmless(WeightFiles& files, const std::string& name) {
  if (is_scale(files, name)) return true;
  if (ends_with(name, ".rotary_emb.inv_freq")) return true;
  if (name == kHead) return copy_of(files, name, kEmbedding);
  const std::string original = original_of(files, name);
  return !original.empty() && copy_of(files, name, original);
}

std::string check_scales(WeightFiles& files, const StTensor& found) {
  const std::string name = scale_name(found.name);
  const std::string begin = "\n  tensor " + name + ": ";
  if (files.file_of().count(name) == 0) {
    return begin + "missing; " + found.name + " is stored in fp8 and needs its scales";
  }
  const StTensor& scales = *files.find(name).tensor;
  const std::vector<std::int64_t> shape = scale_shape(found.shape);
  if (found.shape.size() == 2 && scales.shape == shape && is_float(scales.dtype)) return "";
  return begin + name_of(scales.dtype) + " of shape " + to_string(scales.shape) +
         ", expected a float for each block of 128 x 128: " + to_string(shape);
}

std::string check_tensor(WeightFiles& files, const StTensor& found,
                         const ExpectedTensor& expected) {
  std::string problems;
  const std::string begin = "\n  tensor " + found.name + ": ";
  if (found.dtype == StDType::kF8E4M3) {
    problems += check_scales(files, found);
  } else if (!is_float(found.dtype)) {
    problems +=
        begin + "dtype " + name_of(found.dtype) + ", expected F32, F64, F16, BF16 or F8_E4M3";
  }
  if (found.shape != expected.shape) {
    problems +=
        begin + "shape " + to_string(found.shape) + ", expected " + to_string(expected.shape);
  }
  return problems;
}

}  // namespace

WeightFiles::WeightFiles(const std::string& folder, const std::string& stem) : folder_(folder) {
  const std::string single = stem + ".safetensors";
  const fs::path index = fs::path(folder) / (single + ".index.json");
  if (!fs::is_directory(folder)) throw_user_error(folder, ": there is no such folder");
  if (fs::exists(index)) {
    file_of_ = read_index(index.string());
  } else if (fs::exists(fs::path(folder) / single)) {
    for (const auto& [name, tensor] : open(single).tensors()) file_of_[name] = single;
  } else {
    throw_user_error(folder, ": holds neither ", single, ".index.json nor ", single);
  }
}

const SafetensorsReader& WeightFiles::open(const std::string& file) {
  auto found = open_.find(file);
  if (found == open_.end()) {
    found = open_.emplace(file, SafetensorsReader((fs::path(folder_) / file).string())).first;
  }
  return found->second;
}

void WeightFiles::leave_out(const std::function<bool(const std::string&)>& unwanted) {
  for (auto entry = file_of_.begin(); entry != file_of_.end();) {
    if (unwanted(entry->first)) {
      left_out_.insert(entry->first);
      entry = file_of_.erase(entry);
    } else {
      ++entry;
    }
  }
}

WeightFiles::Entry WeightFiles::find(const std::string& name) {
  const auto where = file_of_.find(name);
  if (where == file_of_.end()) throw_user_error(folder_, ": tensor ", name, " is missing");
  const SafetensorsReader& file = open(where->second);
  const StTensor* tensor = file.find(name);
  if (tensor == nullptr) {
    throw_user_error(file.path(), ": tensor ", name, ", which the index places here, is missing");
  }
  return {&file, tensor};
}

std::string to_string(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    text += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  }
  return text + "]";
}

std::string find_problems(WeightFiles& files, const std::vector<ExpectedTensor>& expected) {
  std::string problems;
  // Files first: one line for a missing shard, not one for each tensor in it.
  std::set<std::string> unreadable;
  std::set<std::string> names;
  for (const auto& [name, file] : files.file_of()) names.insert(file);
  for (const std::string& file : names) {
    try {
      for (const auto& [name, tensor] : files.open(file).tensors()) {
        if (files.file_of().count(name) == 0 && !files.left_out(name)) {
          problems += "\n  tensor " + name + ": in " + file + ", but not in the index";
        }
      }
    } catch (const UserError& error) {
      unreadable.insert(file);
      problems += "\n  " + std::string(error.what());
    }
  }
  std::set<std::string> known;
  for (const ExpectedTensor& tensor : expected) {
    known.insert(tensor.name);
    const auto where = files.file_of().find(tensor.name);
    if (where == files.file_of().end()) {
      if (!tensor.optional) problems += "\n  tensor " + tensor.name + ": missing";
    } else if (unreadable.count(where->second) == 0) {
      const StTensor* found = files.open(where->second).find(tensor.name);
      problems += found == nullptr ? "\n  tensor " + tensor.name + ": not in " + where->second +
                                         ", where the index places it"
                                   : check_tensor(files, *found, tensor);
    }
  }
  for (const auto& [name, file] : files.file_of()) {
    if (known.count(name) > 0 || unreadable.count(file) > 0) continue;
    if (files.open(file).find(name) != nullptr && harmless(files, name)) continue;
    const std::string original = original_of(files, name);
    problems += "\n  tensor " + name +
                (original.empty() ? ": unknown to this model"
                                  : ": differs from " + original +
                                        ", which multi-token prediction shares with the model");
  }
  return problems;
}

std::int64_t hf_layer_of(const std::string& name) {
  const std::string begin = "model.layers.";
  if (name.compare(0, begin.size(), begin) != 0) return -1;
  const std::size_t end = name.find('.', begin.size());
  const std::string number =
      name.substr(begin.size(), end == std::string::npos ? end : end - begin.size());
  if (number.empty() || number.size() > 9 ||
      number.find_first_not_of("0123456789") != std::string::npos) {
    return -1;
  }
  return std::stoll(number);
}

std::string find_weight_problems(WeightFiles& files, const ParamTable& table) {
  const bool own = has_manifest(files.folder());
  std::vector<ExpectedTensor> expected;
  for (const HfTensor& tensor : hf_weights_of(table)) {
    expected.push_back({tensor.name, tensor.shape, own && !table[tensor.id].trained()});
  }
  return find_problems(files, expected);
}

}  // namespace witan
