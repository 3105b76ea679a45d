#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "launch/checkpoint/safetensors.h"

namespace witan {
namespace {

// Fills begin and bytes of each tensor; returns the size of the data section.
std::size_t lay_out(std::vector<StTensor>& tensors, const std::string& path) {
  std::set<std::string> names;
  std::size_t end = 0;
  for (StTensor& tensor : tensors) {
    WITAN_CHECK(tensor.name != "__metadata__" && names.insert(tensor.name).second, path,
                ": tensor \"", tensor.name, "\" is declared twice, or under a reserved name");
    tensor.begin = end;
    tensor.bytes = size_of(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) {
      WITAN_CHECK(extent >= 0, path, ": tensor \"", tensor.name, "\": a negative extent");
      tensor.bytes *= static_cast<std::size_t>(extent);
    }
    end += tensor.bytes;
  }
  return end;
}

// Header length, then the header padded with spaces, so that the data begins at a multiple of 8.
std::string header_of(const std::vector<StTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::string text = header.dump();
  text.pop_back();  // the closing brace; entries are appended as text: ordered_json looks keys up
                    // one by one
  for (const StTensor& tensor : tensors) {
    if (text.size() > 1) text += ',';
    text += nlohmann::json(tensor.name).dump() + ":{\"dtype\":\"" + name_of(tensor.dtype) +
            "\",\"shape\":" + nlohmann::json(tensor.shape).dump() + ",\"data_offsets\":[" +
            std::to_string(tensor.begin) + "," + std::to_string(tensor.begin + tensor.bytes) + "]}";
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (std::size_t byte = 0; byte < 8; ++byte) {
    length[byte] = static_cast<char>((text.size() >> (8 * byte)) & 0xff);
  }
  return length + text;
}

}  // namespace

struct SafetensorsWriter::Impl {
  Impl(const std::string& path, const std::string& header, std::size_t data_bytes)
      : total(header.size() + data_bytes), file(path, total) {
    file.write(header.data(), header.size());
  }
  std::size_t total;
  OutputFile file;
};

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<StTensor> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  const std::size_t data_bytes = lay_out(tensors, path);
  impl_ = std::make_unique<Impl>(path, header_of(tensors, metadata), data_bytes);
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const void* data, std::size_t bytes) {
  WITAN_CHECK(bytes <= impl_->total - impl_->file.bytes(), impl_->file.path(),
              ": more bytes written than the tensors declared hold");
  impl_->file.write(data, bytes);
}

FileDigest SafetensorsWriter::finish() {
  WITAN_CHECK(impl_->file.bytes() == impl_->total, impl_->file.path(), ": ",
              impl_->total - impl_->file.bytes(),
              " bytes of the tensors declared were not written");
  return impl_->file.finish();
}

}  // namespace witan
