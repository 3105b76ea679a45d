#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include "core/base/error.h"
#include "launch/checkpoint/safetensors.h"
#include "launch/checkpoint/strict_json.h"

namespace witan {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation

// A whole file mapped read-only.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(path, errno);
    struct stat status {};
    const bool known = ::fstat(fd, &status) == 0;
    const int stat_error = errno;
    if (!known || !S_ISREG(status.st_mode)) {
      ::close(fd);
      if (!known) fail(path, stat_error);
      throw_user_error(path, ": expected a safetensors file, found something that is not a file");
    }
    size_ = static_cast<std::size_t>(status.st_size);
    void* data = size_ == 0 ? nullptr : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    const int map_error = errno;
    ::close(fd);
    if (data == MAP_FAILED) fail(path, map_error);
    data_ = static_cast<const std::byte*>(data);
  }
  ~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  [[noreturn]] static void fail(const std::string& path, int error) {
    throw_user_error(path, ": cannot open the file: ", std::generic_category().message(error));
  }
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

std::uint64_t read_header_length(const MappedFile& file, const std::string& path) {
  if (file.size() < 8) {
    throw_user_error(path, ": not a safetensors file: ", file.size(),
                     " bytes, shorter than the header length (8 bytes)");
  }
  std::uint64_t length = 0;
  for (int byte = 0; byte < 8; ++byte) {
    length |= static_cast<std::uint64_t>(file.data()[byte]) << (8 * byte);
  }
  if (length > kMaxHeaderBytes) {
    throw_user_error(path, ": not a safetensors file: a header of ", length, " bytes (at most ",
                     kMaxHeaderBytes, ")");
  }
  if (length > file.size() - 8) {
    throw_user_error(path, ": truncated: a header of ", length, " bytes in a file of ",
                     file.size());
  }
  return length;
}

// Reads the entries of one header.
class HeaderParser {
 public:
  explicit HeaderParser(const std::string& path) : path_(path) {}

  std::map<std::string, std::string> metadata(const json& value) const {
    std::map<std::string, std::string> result;
    if (!value.is_object()) throw_user_error(path_, ": __metadata__ is not a JSON object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) {
        throw_user_error(path_, ": __metadata__.", key, ": expected a string, found ", text.dump());
      }
      result[key] = text.get<std::string>();
    }
    return result;
  }

  StTensor tensor(const std::string& name, const json& value) const {
    if (!value.is_object()) fail(name, "expected a JSON object, found ", value.dump());
    for (const auto& item : value.items()) {
      const std::string& key = item.key();
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        fail(name, "unknown key \"", key, "\" (known: dtype, shape, data_offsets)");
      }
    }
    StTensor tensor;
    tensor.name = name;
    tensor.dtype = dtype(name, value);
    tensor.shape = shape(name, value);
    const std::vector<std::uint64_t> offsets = numbers(name, value, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1]) {
      fail(name, "data_offsets: expected [begin, end] with begin <= end, found ",
           value["data_offsets"].dump());
    }
    tensor.begin = offsets[0];
    tensor.bytes = offsets[1] - offsets[0];
    const std::uint64_t expected = bytes(tensor);
    if (tensor.bytes != expected) {
      fail(name, "shape ", value["shape"].dump(), " of ", name_of(tensor.dtype), " takes ",
           expected, " bytes, but data_offsets hold ", tensor.bytes);
    }
    return tensor;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(const std::string& name, const Parts&... parts) const {
    throw_user_error(path_, ": tensor \"", name, "\": ", parts...);
  }

  StDType dtype(const std::string& name, const json& value) const {
    const auto found = value.find("dtype");
    if (found == value.end() || !found->is_string()) fail(name, "dtype is missing");
    const auto text = found->get<std::string>();
    const std::optional<StDType> known = st_dtype_of(text);
    if (!known) {
      fail(name, "unknown dtype \"", text,
           "\" (known: F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL)");
    }
    return *known;
  }

  std::vector<std::int64_t> shape(const std::string& name, const json& value) const {
    std::vector<std::int64_t> result;
    for (const std::uint64_t extent : numbers(name, value, "shape")) {
      if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        fail(name, "shape: ", extent, " is too large");
      }
      result.push_back(static_cast<std::int64_t>(extent));
    }
    return result;
  }

  std::vector<std::uint64_t> numbers(const std::string& name, const json& value,
                                     const char* key) const {
    const auto found = value.find(key);
    if (found == value.end() || !found->is_array()) fail(name, key, " is missing");
    std::vector<std::uint64_t> result;
    for (const json& number : *found) {
      if (!number.is_number_unsigned()) {
        fail(name, key, ": expected whole numbers from 0, found ", number.dump());
      }
      result.push_back(number.get<std::uint64_t>());
    }
    return result;
  }

  std::uint64_t bytes(const StTensor& tensor) const {
    std::uint64_t product = size_of(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) {
      if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(extent), &product)) {
        fail(tensor.name, "shape: its size does not fit 64 bits");
      }
    }
    return product;
  }

  const std::string& path_;
};

// Every byte of the data section belongs to exactly one tensor.
void check_layout(const std::map<std::string, StTensor>& tensors, std::size_t data_bytes,
                  const std::string& path) {
  std::vector<const StTensor*> order;
  for (const auto& [name, tensor] : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const StTensor* a, const StTensor* b) {
    return std::make_pair(a->begin, a->bytes) < std::make_pair(b->begin, b->bytes);
  });
  std::size_t end = 0;
  const StTensor* previous = nullptr;
  for (const StTensor* tensor : order) {
    const auto fail = [&](const auto&... parts) {
      throw_user_error(path, ": tensor \"", tensor->name, "\": ", parts...);
    };
    if (tensor->bytes > data_bytes || tensor->begin > data_bytes - tensor->bytes) {
      fail("bytes ", tensor->begin, " to ", tensor->begin + tensor->bytes,
           " lie beyond the end of the data (", data_bytes, " bytes): the file is truncated");
    }
    if (tensor->begin < end) fail("overlaps tensor \"", previous->name, "\"");
    if (tensor->begin > end) {
      fail("begins at byte ", tensor->begin, ", which leaves a gap behind byte ", end);
    }
    end = tensor->begin + tensor->bytes;
    previous = tensor;
  }
  if (end != data_bytes) {
    throw_user_error(path, ": ", data_bytes - end, " bytes behind the last tensor");
  }
}

}  // namespace

struct SafetensorsReader::Impl {
  explicit Impl(const std::string& file_path) : path(file_path), file(file_path) {}
  std::string path;
  MappedFile file;
  std::size_t data_begin = 0;
  std::map<std::string, StTensor> tensors;
  std::map<std::string, std::string> metadata;
};

SafetensorsReader::SafetensorsReader(const std::string& path)
    : impl_(std::make_unique<Impl>(path)) {
  const std::uint64_t length = read_header_length(impl_->file, path);
  const std::string_view text(reinterpret_cast<const char*>(impl_->file.data()) + 8, length);
  if (!text.starts_with('{')) {
    throw_user_error(path, ": not a safetensors file: its header does not begin with {");
  }
  const json header = parse_strict_json(text, path);
  const HeaderParser parser(path);
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      impl_->metadata = parser.metadata(value);
    } else {
      impl_->tensors.emplace(key, parser.tensor(key, value));
    }
  }
  impl_->data_begin = 8 + length;
  check_layout(impl_->tensors, impl_->file.size() - impl_->data_begin, path);
}

SafetensorsReader::~SafetensorsReader() = default;
SafetensorsReader::SafetensorsReader(SafetensorsReader&&) noexcept = default;
SafetensorsReader& SafetensorsReader::operator=(SafetensorsReader&&) noexcept = default;

const std::string& SafetensorsReader::path() const { return impl_->path; }
const std::map<std::string, StTensor>& SafetensorsReader::tensors() const { return impl_->tensors; }
const std::map<std::string, std::string>& SafetensorsReader::metadata() const {
  return impl_->metadata;
}

const StTensor* SafetensorsReader::find(const std::string& name) const {
  const auto found = impl_->tensors.find(name);
  return found == impl_->tensors.end() ? nullptr : &found->second;
}

void SafetensorsReader::release(const StTensor& tensor) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t first = impl_->data_begin + tensor.begin;
  const std::size_t begin = (first + page - 1) / page * page;
  const std::size_t end = (first + tensor.bytes) / page * page;
  if (begin >= end) return;
  // Advice: where the system does not take it, nothing is lost.
  auto* data = const_cast<std::byte*>(impl_->file.data());
  static_cast<void>(::madvise(data + begin, end - begin, MADV_DONTNEED));
}

const std::byte* SafetensorsReader::data(const StTensor& tensor) const {
  return impl_->file.data() + impl_->data_begin + tensor.begin;
}

}  // namespace witan
