#include "launch/data/indexed_dataset.h"

#include <unistd.h>

#include <cstring>
#include <functional>

#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using test::content_of;
using test::Documents;
using test::user_error;
using test::write_dataset;

const Documents kDocuments = {{1, 2, 3}, {4}, {5, 6, 7, 8, 9}};

class IndexedDatasetTest : public test::FolderTest {
 protected:
  // Writes kDocuments, lets `corrupt` change the bytes of one file, and returns the message with
  // which the dataset is refused.
  std::string refusal(const std::string& suffix, const std::function<void(std::string&)>& corrupt) {
    if (!std::filesystem::exists(path("good.idx"))) write_dataset(path("good"), kDocuments, 300);
    for (const char* each : {".bin", ".idx"}) {
      std::string bytes = content_of(path("good") + each);
      if (each == suffix) corrupt(bytes);
      write_file(std::string("d") + each, bytes);
    }
    const std::string message = user_error([&] { IndexedDataset dataset(path("d")); });
    EXPECT_CONTAINS(message, path("d"));
    return message;
  }
};

template <class T>
void put(std::string& bytes, std::size_t at, T value) {
  ASSERT_LE(at + sizeof(T), bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

template <class T>
void add(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// Offsets in the .idx of kDocuments: 3 sequences.
constexpr std::size_t kTypeAt = 17, kSequencesAt = 18, kMarksCountAt = 26, kLengthsAt = 34,
                      kOffsetsAt = kLengthsAt + 3 * 4, kMarksAt = kOffsetsAt + 3 * 8;

TEST_F(IndexedDatasetTest, BytesAreThoseOfTheFormat) {
  write_dataset(path("d"), kDocuments, 300);
  std::string index("MMIDIDX\0\0", 9);
  add<std::uint64_t>(index, 1);
  add<std::uint8_t>(index, 8);  // uint16
  add<std::uint64_t>(index, 3);
  add<std::uint64_t>(index, 4);
  for (const std::int32_t length : {3, 1, 5}) add(index, length);
  for (const std::int64_t offset : {0, 6, 8}) add(index, offset);
  for (const std::int64_t mark : {0, 1, 2, 3}) add(index, mark);
  EXPECT_EQ(content_of(path("d.idx")), index);

  std::string tokens;
  for (std::uint16_t id = 1; id <= 9; ++id) add(tokens, id);
  EXPECT_EQ(content_of(path("d.bin")), tokens);
}

TEST_F(IndexedDatasetTest, TokenTypeFollowsTheVocabulary) {
  for (const std::int64_t vocab : {65499, 65500}) {
    const std::int32_t last = static_cast<std::int32_t>(vocab) - 1;
    write_dataset(path("d"), {{0, last}}, vocab);
    const IndexedDataset dataset(path("d"));
    EXPECT_EQ(dataset.bytes_per_token(), vocab < 65500 ? 2 : 4);
    EXPECT_EQ(test::all_tokens(dataset, vocab), (std::vector<std::int32_t>{0, last}));
  }
}

TEST_F(IndexedDatasetTest, ReadsAnyRange) {
  write_dataset(path("d"), kDocuments, 300);
  const IndexedDataset dataset(path("d"));
  EXPECT_EQ(dataset.documents(), 3);
  EXPECT_EQ(dataset.sequences(), 3);
  EXPECT_EQ(dataset.tokens(), 9);
  EXPECT_EQ(dataset.sequence_begin(2), 4);
  EXPECT_EQ(dataset.sequence_length(2), 5);
  for (std::int64_t begin = 0; begin <= 9; ++begin)
    for (std::int64_t end = begin; end <= 9; ++end) {
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(end - begin));
      dataset.read(begin, tokens, 300);
      for (std::size_t i = 0; i < tokens.size(); ++i)
        EXPECT_EQ(tokens[i], begin + 1 + static_cast<std::int64_t>(i));
    }
  std::vector<std::int32_t> two(2);
  EXPECT_THROW(dataset.read(8, two, 300), Error);
  EXPECT_THROW(dataset.read(-1, two, 300), Error);
}

TEST_F(IndexedDatasetTest, ReadsEveryIntegerType) {
  const auto check = [&](std::uint8_t code, auto example) {
    using T = decltype(example);
    std::string index("MMIDIDX\0\0", 9);
    add<std::uint64_t>(index, 1);
    add(index, code);
    add<std::uint64_t>(index, 1);
    add<std::uint64_t>(index, 2);
    add<std::int32_t>(index, 2);
    for (const std::int64_t value : {0, 0, 1}) add(index, value);
    std::string tokens;
    add<T>(tokens, 7);
    add<T>(tokens, example);
    write_file("t.idx", index);
    write_file("t.bin", tokens);
    const IndexedDataset dataset(path("t"));
    EXPECT_EQ(dataset.bytes_per_token(), static_cast<int>(sizeof(T)));
    EXPECT_EQ(test::all_tokens(dataset, 100000),
              (std::vector<std::int32_t>{7, static_cast<std::int32_t>(example)}));
  };
  check(1, std::uint8_t{200});
  check(2, std::int8_t{100});
  check(3, std::int16_t{30000});
  check(4, std::int32_t{70000});
  check(5, std::int64_t{70000});
  check(8, std::uint16_t{60000});
}

TEST_F(IndexedDatasetTest, LongDocumentsBecomeSeveralSequences) {
  IndexedDatasetWriter writer(path("d"), 300, 4);
  const std::vector<std::int32_t> ten = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  writer.append(ten);
  writer.end_document();
  writer.append(std::span(ten).first(4));  // exactly one full sequence
  writer.end_document();
  writer.finish();
  const IndexedDataset dataset(path("d"));
  EXPECT_EQ(dataset.documents(), 2);
  EXPECT_EQ(dataset.sequences(), 4);
  EXPECT_EQ(dataset.sequence_length(2), 2);
  EXPECT_EQ(dataset.sequence_begin(3), 10);
  EXPECT_EQ(dataset.tokens(), 14);
}

TEST_F(IndexedDatasetTest, NothingUnderTheNameUntilFinished) {
  {
    IndexedDatasetWriter writer(path("new/folder/d"), 300);
    writer.append(kDocuments[0]);
    writer.end_document();
    EXPECT_CONTAINS(user_error([&] { IndexedDatasetWriter second(path("new/folder/d"), 300); }),
                    "another process");
  }
  EXPECT_TRUE(std::filesystem::is_empty(path("new/folder")));
}

TEST_F(IndexedDatasetTest, WriterRefusesIdsOutsideTheVocabulary) {
  IndexedDatasetWriter writer(path("d"), 300);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{300}), Error);
  EXPECT_THROW(writer.append(std::vector<std::int32_t>{-1}), Error);
}

TEST_F(IndexedDatasetTest, FullDiskIsAnErrorThatNamesTheFile) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  std::filesystem::create_symlink("/dev/full", path("d.bin.tmp"));
  IndexedDatasetWriter writer(path("d"), 300);
  writer.append(kDocuments[0]);
  writer.end_document();
  try {
    writer.finish();
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_CONTAINS(error.what(), "d.bin.tmp");
    EXPECT_CONTAINS(error.what(), "No space left");
  }
  EXPECT_FALSE(std::filesystem::exists(path("d.idx")));
}

TEST_F(IndexedDatasetTest, RefusesIdsOutsideTheVocabularyByPosition) {
  write_dataset(path("d"), {{1, 2, 3}, {4, 250}}, 300);
  const IndexedDataset dataset(path("d"));
  std::vector<std::int32_t> tokens(3);
  const std::string message = user_error([&] { dataset.read(2, tokens, 250); });
  EXPECT_CONTAINS(message, path("d.bin"));
  EXPECT_CONTAINS(message, "token 4 has the id 250, expected 0 to 249");
  dataset.read(2, tokens, 251);
}

TEST_F(IndexedDatasetTest, RefusesTruncatedBin) {
  EXPECT_CONTAINS(refusal(".bin", [](std::string& bytes) { bytes.pop_back(); }), "truncated");
  EXPECT_CONTAINS(refusal(".bin", [](std::string& bytes) { bytes.clear(); }), "0 bytes, but");
}

TEST_F(IndexedDatasetTest, RefusesBinOfAnotherLength) {
  EXPECT_CONTAINS(refusal(".bin", [](std::string& bytes) { bytes += "xx"; }), "not its partner");
}

TEST_F(IndexedDatasetTest, RefusesEveryTruncationOfTheIndex) {
  for (std::size_t keep = 0; keep < kMarksAt + 4 * 8; ++keep)
    EXPECT_CONTAINS(refusal(".idx", [keep](std::string& bytes) { bytes.resize(keep); }),
                    "truncated");
}

TEST_F(IndexedDatasetTest, RefusesWrongMagicAndVersion) {
  EXPECT_CONTAINS(refusal(".idx", [](std::string& bytes) { bytes[0] = 'X'; }), "MMIDIDX");
  EXPECT_CONTAINS(refusal(".idx", [](std::string& bytes) { put<std::uint64_t>(bytes, 9, 2); }),
                  "version 2, expected 1");
}

TEST_F(IndexedDatasetTest, RefusesTypesThatHoldNoIds) {
  for (const int code : {0, 6, 7, 9, 255})
    EXPECT_CONTAINS(refusal(".idx",
                            [code](std::string& bytes) {
                              put(bytes, kTypeAt, static_cast<std::uint8_t>(code));
                            }),
                    "token type " + std::to_string(code));
}

TEST_F(IndexedDatasetTest, RefusesCountsBeyondTheFile) {
  const std::uint64_t huge = std::uint64_t{1} << 62;  // 12 * huge overflows
  for (const std::size_t at : {kSequencesAt, kMarksCountAt}) {
    for (const std::uint64_t count : {std::uint64_t{0}, std::uint64_t{5}, huge, huge * 4 - 1})
      EXPECT_CONTAINS(refusal(".idx", [=](std::string& bytes) { put(bytes, at, count); }),
                      "header counts");
  }
}

TEST_F(IndexedDatasetTest, RefusesNegativeLength) {
  const std::string message =
      refusal(".idx", [](std::string& bytes) { put<std::int32_t>(bytes, kLengthsAt + 4, -1); });
  EXPECT_CONTAINS(message, "sequence 1 has the negative length -1");
}

TEST_F(IndexedDatasetTest, RefusesOffsetsOutsideOrOutOfPlace) {
  for (const std::int64_t offset : {std::int64_t{-2}, std::int64_t{4}, std::int64_t{1} << 40}) {
    const std::string message =
        refusal(".idx", [=](std::string& bytes) { put(bytes, kOffsetsAt + 8, offset); });
    EXPECT_CONTAINS(message, "sequence 1 begins at byte " + std::to_string(offset));
    EXPECT_CONTAINS(message, "expected 6");
  }
}

TEST_F(IndexedDatasetTest, RefusesLengthsThatDoNotAddUp) {
  const std::string message =
      refusal(".idx", [](std::string& bytes) { put<std::int32_t>(bytes, kLengthsAt + 8, 6); });
  EXPECT_CONTAINS(message, "18 bytes, but");
  EXPECT_CONTAINS(message, "10 tokens");
}

TEST_F(IndexedDatasetTest, RefusesBadDocumentMarks) {
  const auto with_mark = [&](std::size_t document, std::int64_t mark) {
    return refusal(".idx", [=](std::string& bytes) { put(bytes, kMarksAt + 8 * document, mark); });
  };
  EXPECT_CONTAINS(with_mark(0, 1), "document mark 0 is 1, expected 0");
  EXPECT_CONTAINS(with_mark(2, 0), "document mark 2 is 0, expected 1 to 3");
  EXPECT_CONTAINS(with_mark(3, 4), "document mark 3 is 4");
  EXPECT_CONTAINS(with_mark(3, 2), "ends at sequence 2");
}

TEST_F(IndexedDatasetTest, RefusesMissingFilesAndFolders) {
  EXPECT_CONTAINS(user_error([&] { IndexedDataset dataset(path("absent")); }), "absent.idx");
  write_dataset(path("d"), kDocuments, 300);
  std::filesystem::remove(path("d.bin"));
  EXPECT_CONTAINS(user_error([&] { IndexedDataset dataset(path("d")); }), "d.bin");
  std::filesystem::create_directory(path("d.bin"));
  EXPECT_CONTAINS(user_error([&] { IndexedDataset dataset(path("d")); }), "is a folder");
}

TEST_F(IndexedDatasetTest, RefusesUnreadableFiles) {
  write_dataset(path("d"), kDocuments, 300);
  std::filesystem::permissions(path("d.bin"), std::filesystem::perms::none);
  std::filesystem::permissions(path(""), static_cast<std::filesystem::perms>(0755));
  // Root reads everything, so this test is somebody else for a moment.
  const uid_t self = ::geteuid();
  if (self == 0) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const std::string message = user_error([&] { IndexedDataset dataset(path("d")); });
  ASSERT_EQ(::seteuid(self), 0);
  EXPECT_CONTAINS(message, "d.bin: cannot be read: Permission denied");
}

TEST_F(IndexedDatasetTest, EmptyDatasetOpensWithNothingInIt) {
  IndexedDatasetWriter writer(path("d"), 300);
  writer.finish();
  const IndexedDataset dataset(path("d"));
  EXPECT_EQ(dataset.tokens(), 0);
  EXPECT_EQ(dataset.documents(), 0);
}

}  // namespace
}  // namespace witan
